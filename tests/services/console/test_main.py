"""The command line itself: its help, its errors, and what it prints where no terminal is."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from aiohttp import web
from typer.core import TyperGroup

from anamnesis.contracts.base import now
from anamnesis.contracts.episodes import Episode, EpisodePage, EpisodeSource, SearchHit, SearchResponse
from services.console import settings as console
from services.console.main import app
from services.local import presence

from .conftest import KEY, ROOT, Command, Memory


def hit(summary: str, score: float = 0.5) -> SearchHit:
    return SearchHit(
        episode_id="ep_1",
        timestamp=now(),
        ingested_at=now(),
        instance="laptop",
        project="shop",
        summary=summary,
        source=EpisodeSource(kind="api"),
        content_hash="0" * 64,
        score=score,
    )


def answer(*hits: SearchHit) -> web.Response:
    response = SearchResponse(results=hits, abstained=not hits)
    return web.Response(text=response.model_dump_json(), content_type="application/json")


@pytest.mark.parametrize("command", [(), ("recall",), ("episodes", "list")])
async def test_help_is_plain_in_a_pipe(anamnesis: Command, command: tuple[str, ...]) -> None:
    """Where no terminal is, help has neither boxes nor colours."""
    shown = await anamnesis(*command, "--help")
    assert shown.status == 0
    assert shown.out.startswith(" ".join(("Usage: anamnesis", *command)))
    assert not set("│─╭\x1b") & set(shown.out)


def test_every_command_has_an_example() -> None:
    """Every command's help shows how it is called."""
    helps = dict(walk(typer.main.get_command(app)))
    assert [name for name, text in helps.items() if f"anamnesis{name} " not in text + " "] == []


def walk(command: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Every command, by what is typed for it, and its help."""
    yield name, str(getattr(command, "help", ""))
    if isinstance(command, TyperGroup):
        for below, one in command.commands.items():
            yield from walk(one, f"{name} {below}")


def test_help_does_not_wait_for_what_it_does_not_need() -> None:
    """`anamnesis --help` loads neither the library nor the packages that it stands on, which take most of a start."""
    program = (
        "import sys\nfrom services.console.main import main\nsys.argv = ['anamnesis', '--help']\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert "recall" in done.stdout
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "typer" in loaded
    assert not loaded & {"anamnesis", "httpx", "pydantic", "rich", "stamina", "structlog"}


async def test_a_gateway_that_is_away_is_said_at_once(anamnesis: Command) -> None:
    """Nothing listening is one line with what to do, status 1, within seconds."""
    done = await asyncio.wait_for(anamnesis("status", ANAMNESIS_URL="http://127.0.0.1:1"), 10)
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert "cannot reach http://127.0.0.1:1" in done.err
    assert "./deploy.sh local" in done.err


@pytest.mark.parametrize(
    "url",
    ["http://localhost:abc", "http://127.0.0.1:70000", "http://[::1", "localhost:3010", "ftp://localhost", "http://"],
)
async def test_an_address_that_is_none_is_said(anamnesis: Command, url: str) -> None:
    """What is no address is one clear line and status 2."""
    done = await anamnesis("--url", url, "status")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        f"anamnesis: {url!r} is no address of a gateway; expected http://HOST:PORT (--url or ANAMNESIS_URL)\n"
    )


@pytest.mark.parametrize("key", ["anm_é", "two words", "line\nbreak"])
async def test_a_key_that_no_header_carries_is_said(anamnesis: Command, key: str) -> None:
    """What can be no key is one clear line and status 2, without the key."""
    done = await anamnesis("--key", key, "status")
    assert (done.status, done.err.count("\n"), key in done.err) == (2, 1, False)
    assert "this is no API key" in done.err


@pytest.mark.parametrize("command", ["list", "export"])
async def test_a_reader_that_leaves_is_no_error(anamnesis: Command, memory: Memory, command: str) -> None:
    """`anamnesis episodes list | head` says nothing about the end of the pipe."""
    episode = Episode(**hit("Kept.").model_dump(exclude={"score", "reasons"}))
    page = EpisodePage(episodes=(episode,) * 100, total=100)
    memory.answers["/api/episodes"] = web.Response(text=page.model_dump_json(), content_type="application/json")
    lines = (episode.model_dump_json() + "\n") * 1000
    memory.answers["/api/episodes/export"] = web.Response(text=lines, content_type="application/x-ndjson")
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.console.main", "episodes", command),
        env=anamnesis.environment,
        cwd=anamnesis.home,
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, said) == (141, b"")


async def test_a_wrong_key_is_said(anamnesis: Command) -> None:
    """A refused key names the places that a key comes from."""
    done = await anamnesis("--key", "anm_wrong-but-well-formed", "recall", "anything")
    assert done.status == 1
    assert "ANAMNESIS_API_KEY" in done.err
    assert "Traceback" not in done.err


async def test_the_key_is_found_where_memory_left_it(anamnesis: Command, memory: Memory) -> None:
    """Without a given key the one in the data directory is used; without any, the place is named."""
    none = await anamnesis("recall", "anything", ANAMNESIS_API_KEY="")
    assert none.status == 1
    assert "api.key" in none.err
    data = anamnesis.home / "data"
    data.mkdir()
    (data / "api.key").write_text(KEY + "\n")
    memory.answers["/api/episodes/search"] = answer(hit("The bound was raised."))
    assert (await anamnesis("recall", "anything", ANAMNESIS_API_KEY="")).status == 0


Runs = Callable[[Path], None]


@pytest.fixture
def runs(memory: Memory, request: pytest.FixtureRequest) -> Runs:
    """Makes a data directory look as it does while services run in it."""

    def run(data: Path) -> None:
        data.mkdir()
        lock = presence.Lock(data)
        assert lock.take()
        request.addfinalizer(lock.release)
        (data / "address").write_text(memory.url + "\n")

    return run


async def test_the_address_is_found_where_the_services_left_it(anamnesis: Command, memory: Memory, runs: Runs) -> None:
    """Services on another port are found by what they wrote in the data directory."""
    runs(anamnesis.home / "data")
    memory.answers["/api/episodes/search"] = answer(hit("The bound was raised."))
    assert (await anamnesis("recall", "anything", ANAMNESIS_URL="")).status == 0


async def test_services_with_data_elsewhere_are_found(anamnesis: Command, memory: Memory, runs: Runs) -> None:
    """Without any setting, address and key come from the directory that services were last started in."""
    elsewhere = anamnesis.home / "elsewhere"
    runs(elsewhere)
    (elsewhere / "api.key").write_text(KEY + "\n")
    note = anamnesis.home / "state" / "anamnesis" / "data"
    note.parent.mkdir(parents=True)
    note.write_text(f"{elsewhere}\n")
    memory.answers["/api/episodes/search"] = answer(hit("The bound was raised."))
    unset = {"ANAMNESIS_DATA_DIR": "", "ANAMNESIS_URL": "", "ANAMNESIS_API_KEY": ""}
    done = await anamnesis("recall", "anything", **unset)
    assert done.status == 0, done.err


async def test_the_key_of_an_env_file_is_used_but_never_its_address(
    anamnesis: Command, memory: Memory, runs: Runs
) -> None:
    """An .env in the present directory may bring the key, and must not say where it is sent."""
    (anamnesis.home / ".env").write_text(f"ANAMNESIS_URL=http://127.0.0.1:1\nANAMNESIS_API_KEY='{KEY}'\n")
    runs(anamnesis.home / "data")
    memory.answers["/api/episodes/search"] = answer(hit("The bound was raised."))
    done = await anamnesis("recall", "anything", ANAMNESIS_API_KEY="", ANAMNESIS_URL="")
    assert done.status == 0, done.err


def test_the_key_is_that_of_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`api.key` counts while services run beside it; when they have stopped, the .env here does, and no old address."""
    monkeypatch.chdir(tmp_path)
    for name in ("ANAMNESIS_API_KEY", "ANAMNESIS_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "api.key").write_text("of-the-data-directory\n")
    (tmp_path / "address").write_text("http://127.0.0.1:4010\n")
    (tmp_path / ".env").write_text("ANAMNESIS_API_KEY=of-the-env-file\n")
    settings = console.ConsoleSettings(data_dir=tmp_path)
    assert console.key(settings).get_secret_value() == "of-the-env-file"
    assert console.gateway(settings) == console.DEFAULT_URL
    lock = presence.Lock(tmp_path)
    assert lock.take()
    try:
        assert console.key(settings).get_secret_value() == "of-the-data-directory"
        assert console.gateway(settings) == "http://127.0.0.1:4010"
    finally:
        lock.release()
    (tmp_path / ".env").unlink()
    assert console.key(settings).get_secret_value() == "of-the-data-directory"


async def test_status_asks_for_one_entry_of_the_blocklist(anamnesis: Command, memory: Memory) -> None:
    """Only the number of blocked entries is shown, so no more than one is fetched."""
    await anamnesis("status")
    assert "/api/blocklist?limit=1" in [path for path, _ in memory.asked]


async def test_a_recall_prints_a_line_a_hit(anamnesis: Command, memory: Memory) -> None:
    """In a pipe an answer is tab-separated, one line a hit, and cannot steer the terminal."""
    memory.answers["/api/episodes/search"] = answer(hit("First\nsecond \x1b[31mred\x07"), hit("Other", 0.25))
    done = await anamnesis("recall", "why?", "--project", "shop", "--since", "2026-11-01", "--tag", "a", "--tag", "b")
    lines = done.out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["SCORE", "0.500", "0.250"]
    assert lines[1].split("\t")[2:4] == ["shop", "ep_1"]
    assert "\x1b" not in done.out
    assert "\x07" not in done.out
    path, body = memory.asked[-1]
    assert path == "/api/episodes/search"
    assert b'"project_filter":"shop"' in body
    assert b'"tag_filter":["a","b"]' in body


async def test_silence_is_explained(anamnesis: Command, memory: Memory) -> None:
    """When nothing relevant is remembered it says so, with the way to see the nearest; standard output stays empty."""
    memory.answers["/api/episodes/search"] = answer()
    done = await anamnesis("recall", "the price of tea")
    assert (done.status, done.out) == (0, "")
    assert "Nothing relevant is remembered" in done.err
    assert "--floor 0" in done.err


async def test_a_moment_that_is_none_is_refused(anamnesis: Command, memory: Memory) -> None:
    """A moment that cannot be read names the option and what is expected; nothing is asked."""
    done = await anamnesis("recall", "anything", "--since", "soon")
    assert done.status == 1
    assert "--since: 'soon' is no moment; expected a date" in done.err
    assert [path for path, _ in memory.asked] == ["/health"]


async def test_an_error_of_the_service_is_one_line(anamnesis: Command, memory: Memory) -> None:
    """What the service reports is shown as it said it."""
    done = await anamnesis("episodes", "show", "ep_9")
    assert (done.status, done.err) == (1, "anamnesis: there is nothing at this path\n")


async def test_an_export_appears_whole_or_not_at_all(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """A file that exists is replaced by a complete export, and kept when the export breaks off."""
    episode = Episode(**hit("Kept.").model_dump(exclude={"score", "reasons"})).model_dump_json()
    target = tmp_path / "backup.jsonl"
    target.write_text("before")
    memory.answers["/api/episodes/export"] = web.Response(text=episode[:100], content_type="application/x-ndjson")
    broken = await anamnesis("episodes", "export", "-o", str(target), "--project", "shop")
    assert broken.status == 1
    assert target.read_text() == "before"
    memory.answers["/api/episodes/export"] = web.Response(text=episode + "\n", content_type="application/x-ndjson")
    assert (await anamnesis("episodes", "export", "-o", str(target), "--project", "shop")).status == 0
    assert target.read_text() == episode + "\n"
    assert sorted(os.listdir(tmp_path)) == ["backup.jsonl", "home"]


async def test_nothing_is_deleted_without_a_yes(anamnesis: Command, memory: Memory) -> None:
    """Deleting and forgetting ask first; with nobody to answer they do nothing."""
    for command in (("episodes", "delete", "ep_1"), ("forget", "ep_1")):
        assert (await anamnesis(*command)).status == 1
    assert memory.asked == []
