"""A BEAM chat as Claude Code transcripts: a session a batch, so that real conversations can be ingested end to end.

`python -m tests.beam_transcripts SRC DST` converts every chat below SRC (or the one chat.json that SRC is) into
`DST/beam-<chat>/<session>.jsonl`. Ids are made from chat and message, so converting twice gives the same files.
"""

import json
import re
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NotRequired, TypedDict

STEP = timedelta(minutes=2)
"""Between two messages of a batch."""
_MARKER = re.compile(r"\s*->->[^\n]*\Z")
_SPACE = uuid.UUID("6f1c7a4e-4b7e-5d6f-9a55-1f1f6a0f7b11")


class Message(TypedDict):
    role: str
    id: int
    content: str
    time_anchor: NotRequired[str | None]


class Batch(TypedDict):
    batch_number: int
    turns: list[list[Message]]


def record_id(chat: str, message: int) -> str:
    """The uuid that a message gets."""
    return str(uuid.uuid5(_SPACE, f"{chat}/{message}"))


def words(message: Message) -> str:
    """What was said, without the marker that the data set puts behind the questions."""
    return _MARKER.sub("", message["content"]) if message["role"] == "user" else message["content"]


def convert(chat: str, batches: list[Batch]) -> dict[str, bytes]:
    """Session id -> the bytes of its transcript."""
    sessions: dict[str, bytes] = {}
    for number, batch in enumerate(batches, 1):
        session = str(uuid.uuid5(_SPACE, f"{chat}/batch/{number}"))
        sessions[session] = b"".join(_records(chat, session, batch, datetime(2024, 1, number, 9, tzinfo=UTC)))
    return sessions


def _records(chat: str, session: str, batch: Batch, fallback: datetime) -> Iterator[bytes]:
    messages = [message for turn in batch["turns"] for message in turn]
    anchor = next((message["time_anchor"] for message in messages if message.get("time_anchor")), None)
    moment = _time(anchor) or fallback
    parent: str | None = None
    for message in messages:
        own = record_id(chat, message["id"])
        said: str | list[dict[str, str]] = words(message)
        if message["role"] == "assistant":
            said = [{"type": "text", "text": message["content"]}]
        record = {
            "type": message["role"],
            "uuid": own,
            "parentUuid": parent,
            "sessionId": session,
            "timestamp": moment.isoformat().replace("+00:00", "Z"),
            "cwd": f"/home/beam/beam-{chat}",
            "gitBranch": "main",
            "version": "2.0.0",
            "userType": "external",
            "isSidechain": False,
            "message": {"role": message["role"], "content": said},
        }
        yield json.dumps(record, ensure_ascii=False).encode() + b"\n"
        parent = own
        moment += STEP


def _time(anchor: str | None) -> datetime | None:
    """`March-15-2024` as nine in the morning of that day."""
    if anchor is None:
        return None
    try:
        return datetime.strptime(anchor.strip(), "%B-%d-%Y").replace(hour=9, tzinfo=UTC)
    except ValueError:
        return None


def chats(source: Path) -> dict[str, Path]:
    """Chat -> its file, for a single chat.json or all below a directory."""
    if source.is_file():
        return {source.parent.name: source}
    return {path.parent.name: path for path in sorted(source.glob("**/chat.json"))}


def write(source: Path, destination: Path) -> list[Path]:
    """Convert all chats; gives the transcripts that were written."""
    written = []
    for chat, path in chats(source).items():
        directory = destination / f"-home-beam-beam-{chat}"
        directory.mkdir(parents=True, exist_ok=True)
        for session, data in convert(chat, json.loads(path.read_text("utf-8"))).items():
            transcript = directory / f"{session}.jsonl"
            transcript.write_bytes(data)
            written.append(transcript)
    return written


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m tests.beam_transcripts SRC DST")
    written = write(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write(f"{len(written)} transcripts below {sys.argv[2]}\n")


if __name__ == "__main__":
    main()
