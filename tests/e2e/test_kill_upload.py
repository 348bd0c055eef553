"""kill -9 while a document is handed in: handing it in again leaves what one undisturbed upload leaves."""

import io
import random
import threading
import time
from pathlib import Path

import docx
import httpx
import pytest

from tests.e2e.conftest import Stack, running
from tests.e2e.crawling import exported

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SEED = 20_261_124
KILLS = 4


def document() -> bytes:
    """Some hundred parts: several batches."""
    dice = random.Random(SEED)
    words = [f"{dice.choice('bdfgklmnprst')}{dice.choice('aeiou')}{dice.choice('bdfgklmnprst')}" for _ in range(400)]
    paper = docx.Document()
    for number in range(240):
        paper.add_heading(f"Lamp {number}", 1)
        paper.add_paragraph(" ".join(dice.choice(words) for _ in range(160)))
    out = io.BytesIO()
    paper.save(out)
    return out.getvalue()


def upload(stack: Stack, data: bytes) -> httpx.Response:
    with stack.client(timeout=300) as client:
        return client.post("/api/episodes/upload", files={"file": ("lamps.docx", data)}, data={"project": "house"})


def kept(stack: Stack) -> dict[str, str]:
    found = exported(stack)
    assert len({one.episode_id for one in found}) == len(found)
    return {one.episode_id: one.raw_exchange or "" for one in found}


def test_an_upload_that_was_cut_short_is_handed_in_again(tmp_path: Path) -> None:
    """However often ingest or memory is killed meanwhile, every part is there once, and none that was there goes."""
    dice = random.Random(SEED)
    data = document()
    extra = {"ANAMNESIS_EMBEDDING_CPU_PERCENT": "100"}
    with running(tmp_path / "whole", extra=extra) as stack:
        assert upload(stack, data).status_code == 201
        expected = kept(stack)
    assert len(expected) > 200

    with running(tmp_path / "killed", extra=extra) as stack:
        present: set[str] = set()
        for _ in range(KILLS):
            sending = threading.Thread(target=upload, args=(stack, data), daemon=True)
            sending.start()
            time.sleep(dice.uniform(0.5, 4))
            victim = dice.choice(["ingest", "memory"])
            stack.kill(victim)
            sending.join(300)
            stack.start(victim)
            now = kept(stack).keys()
            assert present <= now <= expected.keys()
            present = set(now)
        answer = upload(stack, data)
        assert answer.status_code == 201, answer.text
        assert kept(stack) == expected
        assert answer.json()["created"] <= len(expected) - len(present)  # memory may have finished a batch since
