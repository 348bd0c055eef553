"""What a new user does: ingest transcripts, recall, look, forget; over all services and the real command."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.beam_transcripts import convert, words
from tests.e2e.conftest import ROOT, Stack, running

SHARED = ROOT.parent / "shared" / "data"


def anamnesis(stack: Stack, *arguments: str, expect: int = 0) -> str:
    """Run the command as a user would, against this stack."""
    done = subprocess.run(
        [sys.executable, "-m", "services.console.main", *arguments],
        env=stack.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


def _line(number: int, role: str, text: str) -> str:
    record = {
        "type": role,
        "uuid": f"u{number}",
        "parentUuid": f"u{number - 1}" if number else None,
        "sessionId": "5e551017-0000-4000-8000-000000000000",
        "timestamp": f"2026-03-01T10:{number:02}:00Z",
        "cwd": "/home/ada/projects/webshop",
        "isSidechain": False,
        "message": {"role": role, "content": text if role == "user" else [{"type": "text", "text": text}]},
    }
    return json.dumps(record) + "\n"


EXCHANGES = [
    ("The upload test fails once in ten runs, why is that?", "It polls before the worker has bound its socket; I made "
     "the test wait for the socket, and it has passed two hundred times since."),
    ("Which port does the payment sandbox listen on?", "The payment sandbox listens on 8471, set in compose.override."),
    ("Please rename the class Basket to Cart everywhere.", "Renamed Basket to Cart in 14 files; all tests pass."),
    (f"Use the key sk-ant-api03-{'k3Y' * 30} for the smoke run.", "I ran the smoke test with the key; it passed."),
]  # fmt: skip


def _write(root: Path, exchanges: list[tuple[str, str]]) -> Path:
    folder = root / "-home-ada-projects-webshop"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "5e551017-0000-4000-8000-000000000000.jsonl"
    lines = [(role, text) for pair in exchanges for role, text in zip(("user", "assistant"), pair, strict=True)]
    file.write_text("".join(_line(number, role, text) for number, (role, text) in enumerate(lines)))
    return file


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_from_transcripts_to_recall(stack: Stack, tmp_path: Path) -> None:
    """A session on disk is ingested, answers its questions, stays silent on others, grows, and can be forgotten."""
    _write(tmp_path, EXCHANGES)
    anamnesis(stack, "ingest", str(tmp_path), "--everything")

    def recall(question: str, *more: str) -> list[dict[str, str]]:
        answer = json.loads(anamnesis(stack, "recall", question, "--project", "webshop", "--json", *more))
        found: list[dict[str, str]] = answer["results"]
        return found

    best = recall("how did we fix the flaky upload test?")[0]
    assert "socket" in best["raw_exchange"]
    assert best["timestamp"].startswith("2026-03-01T10:00")
    assert "8471" in recall("what port does the payment sandbox use?")[0]["raw_exchange"]
    assert recall("recipe for sourdough bread with rye") == []

    everything = anamnesis(stack, "episodes", "export", "--project", "webshop")
    assert "sk-ant-api03" not in everything
    assert "[REDACTED:" in everything
    assert all("k3Yk3Y" not in stack.log(service) for service in ("memory", "gateway", "ingest"))

    count = len(everything.splitlines())
    _write(
        tmp_path, [*EXCHANGES[:-1], (EXCHANGES[-1][0], "The smoke run passed; then the mail queue was drained too.")]
    )
    anamnesis(stack, "ingest", str(tmp_path), "--everything")
    assert len(anamnesis(stack, "episodes", "export", "--project", "webshop").splitlines()) <= count + 1

    receipt = anamnesis(stack, "forget", best["episode_id"], "--yes")
    assert best["episode_id"] in receipt
    anamnesis(stack, "ingest", str(tmp_path), "--everything", "--anew")
    assert all(hit["episode_id"] != best["episode_id"] for hit in recall("flaky upload test", "--floor", "0"))


def _evidence(question: dict[str, Any]) -> set[int]:
    """The ids of the messages that a question is answered from."""
    ids = question.get("source_chat_ids") or []
    lists = ids.values() if isinstance(ids, dict) else [ids]
    return {int(one) for several in lists for one in several}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not (SHARED / "beam-100k").is_dir(), reason="the BEAM chats are not beside this checkout")
def test_a_real_conversation_is_remembered(tmp_path: Path) -> None:
    """A BEAM chat, converted to transcripts, gives half of each question's evidence within five exchanges."""
    chat = SHARED / "beam-100k" / "1"
    batches = json.loads((chat / "chat.json").read_text())
    folder = tmp_path / "transcripts" / "beam-1"
    folder.mkdir(parents=True)
    for session, content in convert("1", batches).items():
        (folder / f"{session}.jsonl").write_bytes(content)
    for file in (SHARED / "transcripts").glob("*.jsonl"):
        shutil.copy(file, folder)
    said = {
        message["id"]: " ".join(words(message).split())[:60]
        for batch in batches
        for turn in batch["turns"]
        for message in turn
    }
    probes = json.loads((chat / "probing_questions.json").read_text())
    questions = [one for several in probes.values() for one in several if _evidence(one)]
    with running(tmp_path / "data") as stack:
        anamnesis(stack, "ingest", str(tmp_path / "transcripts"))
        recalls = []
        for one in questions:
            answer = json.loads(anamnesis(stack, "recall", one["question"], "--json", "--floor", "0"))
            shown = " ".join(" ".join((hit["raw_exchange"] or "").split()) for hit in answer["results"])
            evidence = _evidence(one)
            recalls.append(sum(said[message] in shown for message in evidence) / len(evidence))
        assert len(recalls) > 10
        assert sum(recalls) / len(recalls) > 0.4
