"""`anamnesis push` and `upload` as people run them: what is read, what never is, and what survives an interruption."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from aiohttp import web

from anamnesis.contracts.documents import DocumentIngested

from .conftest import Command, Memory

DOCUMENT = DocumentIngested(
    name="notes.md",
    kind="md",
    title="Notes",
    characters=120,
    episodes=("ep_1",),
    created=1,
    duplicate=0,
    blocked=0,
    redactions=0,
)


def tree(root: Path) -> Path:
    """A project with code, notes, and what is never read."""
    shop = root / "shop"
    (shop / "node_modules").mkdir(parents=True)
    (shop / "cart.py").write_text("def total(items):\n    return sum(item.price for item in items)\n")
    (shop / "notes.md").write_text("# Cart\n\nThe total is rounded once, at the end.\n")
    (shop / "node_modules" / "left.js").write_text("module.exports = 1\n")
    (shop / ".env").write_text("PASSWORD=hunter2hunter2\n")
    (shop / "secret.key").write_text("nobody reads this\n")
    (shop / "big.md").write_text("x" * (70 << 10))
    return shop


def said(memory: Memory) -> str:
    return "\n".join(f"{one.summary}\n{one.raw_exchange}" for one in memory.episodes.values())


async def test_a_dry_run_reads_nothing(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """It shows which files, how many are left out and why; neither a gateway nor a key is needed."""
    shop = tree(tmp_path)
    done = await anamnesis("push", str(shop), "--dry-run", ANAMNESIS_URL="http://127.0.0.1:9", ANAMNESIS_API_KEY="")
    assert done.status == 0, done.err
    assert str(shop / "cart.py") in done.out
    for name in (".env", "secret.key", "left.js"):
        assert name not in done.out
    told = json.loads((await anamnesis("push", str(shop), "--dry-run", "--json")).out)
    assert told["files"] == 2
    assert sum(told["left_out"].values()) >= 1
    assert (memory.episodes, memory.marks) == ({}, {})


async def test_files_become_episodes_once(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """Code and notes are pushed with their project and this machine; a second time there is nothing to do."""
    shop = tree(tmp_path)
    secret = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"[:36]
    (shop / "deploy.sh").write_text(f"#!/bin/sh\n# ships the shop\nexport GITHUB_TOKEN={secret}\n./ship --everything\n")
    done = await anamnesis("push", str(shop), "--instance", "laptop", "--tag", "work", "--json")
    assert done.status == 0, done.err
    told = json.loads(done.out)
    assert told["created"] == len(memory.episodes) >= 3
    assert told["redactions"]
    assert secret not in said(memory)
    assert "hunter2" not in said(memory)
    assert {one.project for one in memory.episodes.values()} == {"shop"}
    assert {one.instance for one in memory.episodes.values()} == {"laptop"}
    assert all({"work", "on:laptop"} <= set(one.tags) for one in memory.episodes.values())
    again = json.loads((await anamnesis("push", str(shop), "--instance", "laptop", "--json")).out)
    assert (again["files_changed"], again["created"]) == (0, 0)


async def test_one_file_alone(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """A path may be a file, whatever stands in its name; nothing beside it is read."""
    odd = tmp_path / "notes[1]*.md"
    odd.write_text("# Odd\n\nA name with brackets.\n")
    (tmp_path / "notes1.md").write_text("# Other\n\nNot meant.\n")
    done = await anamnesis("push", str(odd))
    assert done.status == 0, done.err
    assert "brackets" in said(memory)
    assert "Not meant" not in said(memory)


@pytest.mark.parametrize("kind", ["json", "toml"])
async def test_sources_of_a_file(anamnesis: Command, memory: Memory, tmp_path: Path, kind: str) -> None:
    """A configuration names roots and sources, in JSON or TOML."""
    shop = tree(tmp_path)
    config = tmp_path / f"sources.{kind}"
    if kind == "json":
        source = {"name": "notes", "kind": "named", "root": str(shop), "globs": ["*.md"], "tags": ["note"]}
        config.write_text(json.dumps({"sources": [source]}))
    else:
        config.write_text(
            f'[[sources]]\nname = "notes"\nkind = "named"\nroot = "{shop}"\nglobs = ["*.md"]\ntags = ["note"]\n'
        )
    done = await anamnesis("push", "--config", str(config))
    assert done.status == 0, done.err
    assert "rounded once" in said(memory)
    assert "def total" not in said(memory)
    assert all("note" in one.tags for one in memory.episodes.values())


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("none.json", None, "there is no configuration"),
        ("a.json", "{", "cannot be read as JSON"),
        ("a.toml", "a = ", "cannot be read as TOML"),
        ("a.json", '{"sources": [{"name": "x", "kind": "web"}]}', "sources.0.kind"),
        ("a.json", "{}", "say what to read"),
    ],
)
async def test_a_wrong_configuration_is_one_line(
    anamnesis: Command, tmp_path: Path, name: str, text: str | None, why: str
) -> None:
    """It says what is wrong with which file, and nothing is read."""
    if text is not None:
        (tmp_path / name).write_text(text)
    done = await anamnesis("push", "--config", str(tmp_path / name), "--dry-run")
    assert done.status == 1
    assert why in done.err
    assert len(done.err.splitlines()) == 1


async def test_without_a_path_it_says_so(anamnesis: Command, tmp_path: Path) -> None:
    assert "say what to read" in (await anamnesis("push")).err
    assert "there is nothing at" in (await anamnesis("push", str(tmp_path / "none"))).err


@pytest.mark.slow
async def test_interrupted_it_goes_on(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """Ctrl-C in the middle: what was acknowledged stays, and the next run has all of it, each once."""
    for number in range(400):
        (tmp_path / "many" / f"part-{number // 50}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "many" / f"part-{number // 50}" / f"{number}.md").write_text(f"# Note {number}\n\nSays {number}.\n")
    memory.delay = 0.5
    process = await anamnesis.start("push", str(tmp_path / "many"))
    await asyncio.wait_for(memory.second_batch.wait(), 60)
    stopped = await anamnesis.finish(process, signal.SIGINT)
    assert stopped.status == 130
    assert "the same command goes on" in stopped.err
    memory.delay = 0.0
    done = json.loads((await anamnesis("push", str(tmp_path / "many"), "--json")).out)
    assert done["files"] == 400
    assert len(memory.episodes) == 400


@pytest.mark.slow
async def test_it_watches(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """What is written while it watches is remembered without anybody asking; Ctrl-C ends it."""
    shop = tree(tmp_path)
    process = await anamnesis.start("push", str(shop), "--watch")
    await until(lambda: "rounded once" in said(memory))
    number = 0

    def written() -> bool:  # again and again: the watch may begin later than the first scan ends
        nonlocal number
        number += 1
        (shop / f"later-{number}.md").write_text(f"# Later {number}\n\nCame while it watched.\n")
        return "Came while it watched" in said(memory)

    await until(written, pause=1.0)
    stopped = await anamnesis.finish(process, signal.SIGINT)
    assert stopped.status == 130


async def until(done: "object", pause: float = 0.1) -> None:
    assert callable(done)
    async with asyncio.timeout(60):
        while not done():  # noqa: ASYNC110 -- what is waited for happens in another process
            await asyncio.sleep(pause)


async def test_a_document_is_uploaded(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """As a form with the file, its project and its tags, byte for byte, whatever its name."""
    memory.answers["/api/episodes/upload"] = web.Response(
        text=DOCUMENT.model_dump_json(), content_type="application/json"
    )
    body = os.urandom(300_000)
    odd = tmp_path / 'notes "1" ü.md'
    odd.write_bytes(body)
    done = await anamnesis("upload", str(odd), "--project", "shop", "--tag", "paper", "--tag", "2026")
    assert done.status == 0, done.err
    assert "1 new episodes" in done.out
    [(_, sent)] = [one for one in memory.asked if one[0] == "/api/episodes/upload"]
    assert body in sent
    assert b'name="project"\r\n\r\nshop\r\n' in sent
    assert [tag in sent for tag in (b'name="tags"\r\n\r\npaper\r\n', b'name="tags"\r\n\r\n2026\r\n')] == [True] * 2
    assert 'filename="notes %221%22 ü.md"'.encode() in sent


async def test_an_address_is_handed_on(anamnesis: Command, memory: Memory) -> None:
    memory.answers["/api/ingest-url"] = web.Response(text=DOCUMENT.model_dump_json(), content_type="application/json")
    done = await anamnesis(
        "upload", "--url", "https://docs.example/a.html", "--project", "shop", "--tag", "web", "--json"
    )
    assert json.loads(done.out)["created"] == 1
    assert json.loads(memory.asked[-1][1]) == {"url": "https://docs.example/a.html", "project": "shop", "tags": ["web"]}


async def test_one_refused_document_does_not_stop_the_next(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """What is not there or too large is one line at the end; the others are sent."""
    memory.answers["/api/episodes/upload"] = web.Response(
        text=DOCUMENT.model_dump_json(), content_type="application/json"
    )
    good, large = tmp_path / "good.md", tmp_path / "large.pdf"
    good.write_text("# Good")
    with large.open("wb") as file:
        file.truncate((50 << 20) + 1)
    done = await anamnesis("upload", str(tmp_path / "none.md"), str(large), str(good))
    assert done.status == 1
    assert "there is no file of this name" in done.err
    assert "at most 50 MB" in done.err
    assert "1 new episodes" in done.out


async def test_upload_wants_something(anamnesis: Command) -> None:
    assert (await anamnesis("upload")).status == 2
