"""Nobody touches it: files, documents and transcripts are remembered by the watcher, the scans and the night."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import docx
import pytest

from anamnesis.contracts.schedule import Schedule, ScheduleStatus
from tests.anamnesis.transcripts.writing import Script
from tests.e2e.conftest import Stack, running
from tests.e2e.crawling import code, config_of, configure, current, documents, eventually, exported, status

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def paper(text: str) -> bytes:
    made = docx.Document()
    made.add_heading("Lighting", 1)
    made.add_paragraph(text)
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


def told(stack: Stack) -> str:
    """What the dashboard's stream of events says within some seconds."""
    with stack.client(timeout=30) as client, client.stream("GET", "/api/events") as answer:
        names = []
        for line in answer.iter_lines():
            if line.startswith("event:"):
                names.append(line.partition(":")[2].strip())
            if {"crawler", "ingest", "schedule"} <= set(names):
                break
    return " ".join(names)


def test_all_of_it_comes_in_without_a_hand(tmp_path: Path) -> None:
    """A mixed tree is there after the first scan, a change by the watcher, a transcript by the night."""
    root = tmp_path / "home"
    (root / "shop" / "papers").mkdir(parents=True)
    (root / "shop" / "lights.py").write_text('def lights():\n    """The stairwell lamp flickers above 40 degrees."""\n')
    (root / "shop" / "README.md").write_text("# Shop\n\n## Lamps\n\nSpare lamps lie in cabinet 7.\n")
    (root / "shop" / "papers" / "plan.docx").write_bytes(paper("The emergency circuit is tested each March."))
    (root / "shop" / "node_modules").mkdir()
    (root / "shop" / "node_modules" / "left.js").write_text("exports.left = 'never read';\n")
    (root / "shop" / ".env").write_text("LAMP_PASSWORD=swordfish\n")
    transcripts = root / "transcripts"
    transcripts.mkdir()
    extra = {
        "ANAMNESIS_SOURCES": str(root),
        "ANAMNESIS_TRANSCRIPT_ROOTS": str(transcripts),
        "ANAMNESIS_INGEST_POLL": "0",
        "ANAMNESIS_EMBEDDING_CPU_PERCENT": "100",
    }
    with running(tmp_path / "data", extra=extra) as stack:
        configure(stack, config_of(root / "shop", code(), documents(), watch=True))  # no scans by the clock
        eventually(
            lambda: {"lights.py", "README.md", "plan.docx"} <= current(stack).keys(), told=lambda: current(stack)
        )
        names = current(stack).keys()
        assert not names & {"left.js", ".env"}
        with stack.client() as client:
            answer = client.post("/api/episodes/search", json={"query_text": "where do the spare lamps lie?"})
            assert "cabinet 7" in answer.json()["results"][0]["raw_exchange"]
            eventually(lambda: status(client).watching, told=lambda: status(client))

        (root / "shop" / "lights.py").write_text(
            'def lights():\n    """The lamp was replaced by a cold one in May."""\n'
        )
        eventually(lambda: "cold one in May" in current(stack).get("lights.py", ""), told=lambda: current(stack))
        assert "40 degrees" not in current(stack)["lights.py"]

        script = Script(session="s1", prefix="01")
        script.exchange(
            "Why does the cellar lamp hum?", "The cellar lamp hums because its choke is loose; I tightened it."
        )
        (transcripts / "s1.jsonl").write_bytes(script.data)
        soon = datetime.now(UTC) + timedelta(minutes=1, seconds=5)
        with stack.client() as client:
            at = Schedule(enabled=True, at=f"{soon:%H:%M}", time_zone="UTC")
            done = client.put("/api/schedule", json=at.model_dump(mode="json"))
            assert done.status_code == 200, done.text

            def night() -> ScheduleStatus:
                return ScheduleStatus.model_validate_json(client.get("/api/schedule").raise_for_status().content)

            # The setting may have been due today already: then the night came at once, and that is right too.
            eventually(lambda: any(one.source.kind == "claude-code" for one in exported(stack)), within=180, told=night)
            eventually(lambda: night().last_successful_day is not None, within=180, told=night)
            last = night().last
            assert last is not None
            assert last.state == "done", last
            assert [one.state for one in last.steps] == ["done"] * 4, last
        assert {"crawler", "ingest", "schedule"} <= set(told(stack).split())
        text = json.dumps([one.model_dump(mode="json") for one in exported(stack)])
        assert "swordfish" not in text
        assert "never read" not in text
