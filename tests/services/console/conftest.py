"""A small real server in memory's place, transcripts to read, and the command as people run it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web

from anamnesis.contracts.episodes import BatchResult, EpisodeBatch, EpisodeCreate, WriteResult, WriteStatus

KEY = "anm_the-key-of-these-tests"
ROOT = Path(__file__).parents[3]


class Memory:
    """Keeps episodes and marks as memory does, and can be slow, so that a run can be interrupted."""

    def __init__(self) -> None:
        self.episodes: dict[str, EpisodeCreate] = {}
        self.marks: dict[str, dict[str, object]] = {}
        self.batches = 0
        self.second_batch = asyncio.Event()
        self.delay = 0.0
        self.refused = ""
        """Batches with this word in an episode are refused."""
        self.answers: dict[str, web.Response] = {}
        """Canned answers by path."""
        self.asked: list[tuple[str, bytes]] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_get("/api/state/offsets/{name}", self._load)
        app.router.add_put("/api/state/offsets/{name}", self._save)
        app.router.add_post("/api/episodes/batch", self._batch)
        app.router.add_route("*", "/{rest:.*}", self._any)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _any(self, request: web.Request) -> web.Response:
        self.asked.append((request.path_qs, await request.read()))
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return _error(401, "unauthorized", "send a valid API key")
        if request.path == "/health":
            return web.json_response({"status": "ok"})
        answer = self.answers.get(request.path)
        if answer is None:
            return _error(404, "not_found", "there is nothing at this path")
        return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)

    async def _load(self, request: web.Request) -> web.Response:
        return web.json_response({"documents": self.marks})

    async def _save(self, request: web.Request) -> web.Response:
        documents = json.loads(await request.read())["documents"]
        self.marks.update(documents)
        return web.json_response({"changed": len(documents)})

    async def _batch(self, request: web.Request) -> web.Response:
        batch = EpisodeBatch.model_validate_json(await request.read())
        if self.refused and any(self.refused in one.summary for one in batch.episodes):
            return _error(422, "invalid", "there is one that does not fit")
        await asyncio.sleep(self.delay)
        results = []
        for episode in batch.episodes:
            assert episode.episode_id is not None
            known = episode.episode_id in self.episodes
            self.episodes[episode.episode_id] = episode
            status = WriteStatus.DUPLICATE if known else WriteStatus.CREATED
            results.append(WriteResult(episode_id=episode.episode_id, status=status))
        self.batches += 1
        if self.batches == 2:
            self.second_batch.set()
        return web.Response(text=BatchResult(results=tuple(results)).model_dump_json(), content_type="application/json")


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message, "detail": None}}, status=status)


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


class Command:
    """`anamnesis` in a process of its own, with its own home and data directory."""

    def __init__(self, url: str, home: Path) -> None:
        self.home = home
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANAMNESIS_")},
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "ANAMNESIS_DATA_DIR": str(home / "data"),
            "ANAMNESIS_URL": url,
            "ANAMNESIS_API_KEY": KEY,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}",
        }

    async def __call__(self, *arguments: str, **environment: str) -> Outcome:
        process = await self.start(*arguments, **environment)
        return await self.finish(process)

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.console.main",
            *arguments,
            env={name: value for name, value in {**self.environment, **environment}.items() if value},
            cwd=self.home,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def finish(self, process: asyncio.subprocess.Process, number: signal.Signals | None = None) -> Outcome:
        if number is not None:
            process.send_signal(number)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return Outcome(process.returncode, out.decode(), err.decode())


@pytest.fixture
async def memory() -> AsyncIterator[Memory]:
    server = Memory()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
def anamnesis(memory: Memory, tmp_path: Path) -> Command:
    home = tmp_path / "home"
    home.mkdir()
    return Command(memory.url, home)


def write_transcripts(root: Path, sessions: int, exchanges: int, word: str = "upload") -> Path:
    """Transcripts as Claude Code writes them: `sessions` files of `exchanges` exchanges each."""
    folder = root / "projects" / "-srv-shop"
    folder.mkdir(parents=True)
    for session in range(sessions):
        lines = []
        parent = None
        for number in range(exchanges):
            question = f"Why does the {word} test number {number} of session {session} fail on slow machines?"
            reply = f"It waits {number} seconds for a server that needs more; I raised the bound in {session}."
            for who, minute, text in (("user", 0, question), ("assistant", 30, reply)):
                uuid = f"{session:04d}-{number:04d}-{who}"
                record = {
                    "type": who,
                    "uuid": uuid,
                    "parentUuid": parent,
                    "sessionId": f"session-{session}",
                    "timestamp": f"2026-10-{session % 28 + 1:02d}T{number % 24:02d}:{minute:02d}:00.000Z",
                    "cwd": "/srv/shop",
                    "message": {"id": f"m-{uuid}", "role": who, "content": [{"type": "text", "text": text}]},
                }
                lines.append(json.dumps(record))
                parent = uuid
        (folder / f"session-{session}.jsonl").write_text("\n".join(lines) + "\n")
    return root / "projects"
