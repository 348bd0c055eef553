"""Writes transcripts as Claude Code does, for tests."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pydantic import JsonValue

Line = dict[str, JsonValue]
START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


def encoded(*records: Line) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


@dataclass
class Script:
    """Makes records in order: each a second after the one before and, unless told otherwise, its child."""

    session: str = "11111111-aaaa-bbbb-cccc-000000000000"
    cwd: str = "/home/me/shop"
    prefix: str = "r"
    records: list[Line] = field(default_factory=list)
    count: int = 0
    last: str | None = None

    def add(self, kind: str, message: Line | None, **more: JsonValue) -> Line:
        self.count += 1
        uuid = f"{self.prefix}{self.count:06d}-0000-4000-8000-000000000000"
        record: Line = {
            "type": kind,
            "uuid": uuid,
            "parentUuid": self.last,
            "sessionId": self.session,
            "timestamp": (START + timedelta(seconds=self.count)).isoformat().replace("+00:00", "Z"),
            "cwd": self.cwd,
            "gitBranch": "main",
            "isSidechain": False,
            **more,
        }
        if message is not None:
            record["message"] = message
        self.last = uuid
        self.records.append(record)
        return record

    def user(self, text: JsonValue, **more: JsonValue) -> Line:
        return self.add("user", {"role": "user", "content": text}, **more)

    def says(self, text: str, **more: JsonValue) -> Line:
        return self.add("assistant", {"role": "assistant", "content": [{"type": "text", "text": text}]}, **more)

    def uses(self, name: str, given: Line, tool: str = "", **more: JsonValue) -> Line:
        block: Line = {"type": "tool_use", "id": tool or f"tool{self.count}", "name": name, "input": given}
        return self.add("assistant", {"role": "assistant", "content": [block]}, **more)

    def result(self, tool: str, text: str = "fine", failed: bool = False, **more: JsonValue) -> Line:
        block: Line = {"type": "tool_result", "tool_use_id": tool, "content": text, "is_error": failed}
        return self.add("user", {"role": "user", "content": [block]}, **more)

    def exchange(self, asked: str, answered: str) -> None:
        self.user(asked)
        self.says(answered)

    @property
    def data(self) -> bytes:
        return encoded(*self.records)
