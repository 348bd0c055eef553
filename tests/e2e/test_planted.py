"""Secrets in files, documents and transcripts: afterwards none is anywhere in the store, the logs or the metrics."""

import io
import json
from pathlib import Path

import docx
import pytest

from tests.anamnesis.redact.planted import Planted, planted
from tests.anamnesis.redact.test_planted import survives
from tests.e2e.conftest import SERVICES, Stack, running
from tests.e2e.crawling import code, config_of, configure, documents, exported, scan
from tests.e2e.reading import finish

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SESSION = "5e551017-0000-4000-8000-00000000beef"


def known(seed: int) -> list[Planted]:
    """Those that redaction knows; what it misses is counted in the tests of redaction."""
    from anamnesis.redact import redact

    return [one for one in planted(seed, each=1) if not survives(one.value, redact(one.text).text)]


def as_document(lines: list[str]) -> bytes:
    paper = docx.Document()
    paper.add_heading("Access to the machines", 1)
    for line in lines:
        paper.add_paragraph(line)
    out = io.BytesIO()
    paper.save(out)
    return out.getvalue()


def as_transcript(lines: list[str]) -> str:
    def record(number: int, role: str, text: str) -> str:
        content = text if role == "user" else [{"type": "text", "text": text}]
        return json.dumps(
            {
                "type": role,
                "uuid": f"00000000-0000-4000-8000-{number:012d}",
                "parentUuid": None,
                "sessionId": SESSION,
                "timestamp": f"2026-03-01T{10 + number // 60:02}:{number % 60:02}:00Z",
                "cwd": "/home/ada/shop",
                "message": {"role": role, "content": content},
            }
        )

    out = []
    for number, line in enumerate(lines):
        out += [
            record(2 * number, "user", f"What is this for? {line}"),
            record(2 * number + 1, "assistant", f"It opens the staging machine number {number}: {line}"),
        ]
    return "\n".join(out) + "\n"


def write(root: Path, secrets: list[Planted]) -> None:
    """A third in code of 20 secrets a file, with padding so that files are cut in many places; the rest elsewhere."""
    third = len(secrets) // 3
    for start in range(0, third, 20):
        body = []
        for number, one in enumerate(secrets[start : start + 20]):
            comment = "\n".join(f"    # {line}" for line in one.text.splitlines())
            padding = "\n".join(f"    value_{number}_{row} = {row} * {number}" for row in range(number % 7))
            body.append(f"def deploy_{start + number}():\n{comment}\n{padding}\n    return {number}\n")
        (root / f"deploy_{start}.py").write_text("\n\n".join(body))
    (root / "papers").mkdir()
    (root / "papers" / "access.docx").write_bytes(as_document([one.text for one in secrets[third : 2 * third]]))
    (root / "transcripts" / "-home-ada-shop").mkdir(parents=True)
    lines = [one.text for one in secrets[2 * third :]]
    (root / "transcripts" / "-home-ada-shop" / f"{SESSION}.jsonl").write_text(as_transcript(lines))
    (root / ".env").write_text(f"NOT_EVEN_OPENED={secrets[0].value}\n")


def left_behind(stack: Stack) -> str:
    """All that the services have written, as one text: database, write-ahead log, logs; and what they tell."""
    out = [path.read_bytes().decode("utf-8", "replace") for path in stack.data.rglob("*") if path.is_file()]
    for service in SERVICES:
        with stack.client(service) as client:
            out.append(client.get("/metrics").text)
    out += [one.model_dump_json() for one in exported(stack)]
    return "\n".join(out)


def test_nothing_planted_is_found_anywhere(tmp_path: Path) -> None:
    """After a crawl, a reading of transcripts and an upload no secret is in any file, log, metric or answer."""
    secrets = known(seed=11)
    assert len(secrets) > 150
    root = tmp_path / "tree"
    root.mkdir()
    write(root, secrets)
    extra = {
        "ANAMNESIS_SOURCES": str(root),
        "ANAMNESIS_TRANSCRIPT_ROOTS": str(root / "transcripts"),
        "ANAMNESIS_INGEST_POLL": "0",
        "ANAMNESIS_EMBEDDING_CPU_PERCENT": "100",
    }
    with running(tmp_path / "data", extra=extra) as stack:
        configure(stack, config_of(root, code(), documents()))
        run = scan(stack).last
        assert run is not None
        assert run.state == "done"
        assert run.errors == {}
        finish(stack)
        with stack.client() as client:
            files = {"file": ("handed-in.docx", as_document([one.text for one in secrets]))}
            assert client.post("/api/episodes/upload", files=files, data={"project": "shop"}).status_code == 201
        kinds = {one.source.kind for one in exported(stack)}
        assert kinds >= {"file", "document", "claude-code"}
        text = left_behind(stack)
        assert text.count("[REDACTED:") > 300
        assert [one.rule for one in secrets if one.value in text] == []
