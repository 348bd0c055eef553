"""Consolidation when something happens in between: a change, a kill -9, and who may ask for it."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from anamnesis.contracts.consolidate import ConsolidateRequest
from anamnesis.contracts.embedding import EmbeddingModel
from anamnesis.contracts.episodes import EpisodeCreate, EpisodePatch
from anamnesis.contracts.keys import Identity, Scope
from anamnesis.kit.app import create_app
from anamnesis.kit.auth import key_hash
from services.memory.blocklist import Blocks
from services.memory.consolidation.made import is_made
from services.memory.consolidation.run import Consolidator
from services.memory.door import Door
from services.memory.endpoints import consolidate
from services.memory.removal import Remover
from services.memory.stores.base import Filter, Vectors
from services.memory.stores.sqlite import SqliteStore
from tests.services.memory.conftest import OneVector

ROOT = Path(__file__).parents[4]


class Model(OneVector):
    """All texts are alike to it."""

    active = EmbeddingModel(name="one", dimension=4, max_tokens=64, licence="MIT")


class Interrupted(SqliteStore):
    """A store in which something happens just after vectors were read."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def vectors(self, model: str, episode_ids: Sequence[str]) -> dict[str, Vectors]:
        found = await super().vectors(model, episode_ids)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return found


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[Interrupted, Door, Remover, Consolidator]]:
    store, blocks = Interrupted(path), Blocks()
    await store.open()
    with ThreadPoolExecutor(1) as workers:
        door = Door(store, blocks, Model(), workers)
        remover = Remover(store, blocks)
        consolidator = Consolidator(store, door, remover, Model())
        await store.prepare("one", 4)
        await store.activate("one")
        yield store, door, remover, consolidator
        await consolidator.close()
    await store.close()


def _create(name: str, text: str | None = None, project: str = "p") -> EpisodeCreate:
    return EpisodeCreate(episode_id=name, instance="i", project=project, summary=text or f"Saying {name}.")


@pytest.mark.parametrize("what", ["grows", "is superseded", "is deleted", "is forgotten", "moves"])
async def test_what_changes_during_a_run_is_not_lost(tmp_path: Path, what: str) -> None:
    """A member that changes after it was compared keeps its group from being made; nothing else of the run fails."""
    async with opened(tmp_path / "store.db") as (store, door, remover, consolidator):
        await door.write([_create("a"), _create("b"), _create("x", "Another.", "q"), _create("c", project="q")])

        async def change() -> None:
            match what:
                case "grows":
                    await door.write([_create("a", "Another text.")], "update")
                case "is superseded":
                    await store.supersede(["a"], "x")
                case "is deleted":
                    await remover.delete("a", block=True)
                case "is forgotten":
                    await remover.forget("b")
                case "moves":
                    await door.patch("a", EpisodePatch(project="z"))

        store.meanwhile = change
        done = await consolidator.run(ConsolidateRequest(dry_run=False))
        assert [set(one.members) for one in done.groups] == [{"x", "c"}]
        kept = {one.episode_id: one for one in (await store.page(Filter(), 0, 50))[0]}
        assert not any(is_made(one) for one in kept.values() if one.project == "p")
        left = [one for name, one in kept.items() if name in "ab"]
        assert [one.episode_id for one in left if one.superseded_by] == (["a"] if what == "is superseded" else [])
        if what == "grows":
            assert kept["a"].summary == "Another text."


_CONSOLIDATING = """
import asyncio, sys
from pathlib import Path
from anamnesis.contracts.consolidate import ConsolidateRequest
from tests.services.memory.consolidation.test_run import _create, opened

async def main():
    async with opened(Path(sys.argv[1])) as (store, door, remover, consolidator):
        print("open", flush=True)
        number = 0
        while True:
            number += 1
            project = f"{sys.argv[2]}-{number}"
            await door.write([_create(f"ep_{project}-{n}", project=project) for n in range(5)])
            done = await consolidator.run(ConsolidateRequest(dry_run=False, project_filter=project))
            print("made", *[one.episode_id for one in done.groups], flush=True)
            if number % 3 == 0:
                await consolidator.undo([one.episode_id for one in done.groups])
                print("undone", *[one.episode_id for one in done.groups], flush=True)

asyncio.run(main())
"""


def _child(path: Path, run: int) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'shared'}"}
    command = [sys.executable, "-c", _CONSOLIDATING, str(path), str(run)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
async def test_kill_9_leaves_groups_whole(tmp_path: Path) -> None:
    """Killed at any moment, each episode that was made has all of its members behind it or is not there; what was
    acknowledged is there, and the next run finishes what was left.
    """
    path, chance = tmp_path / "store.db", random.Random(16)
    made: set[str] = set()
    undone: set[str] = set()
    for run in range(4):
        child = _child(path, run)
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        await asyncio.sleep(chance.uniform(0.1, 0.8))
        child.send_signal(signal.SIGKILL)
        output = child.stdout.read()
        child.wait(10)
        child.stdout.close()
        for line in output[: output.rfind("\n") + 1].splitlines():
            word, *names = line.split()
            (made if word == "made" else undone).update(names)
        async with opened(path) as (store, _, _, consolidator):
            kept = {one.episode_id: one for one in (await store.page(Filter(), 0, 100_000))[0]}
            there = {name for name, one in kept.items() if is_made(one)}
            assert not undone & there
            assert len((made - undone) - there) <= run + 1  # an undoing may have been cut off after it was done
            for name in there:
                assert {kept[one].superseded_by for one in kept[name].consolidated_from} == {name}
            successors = {one.superseded_by for one in kept.values() if one.superseded_by is not None}
            assert successors == there
            await consolidator.run(ConsolidateRequest(dry_run=False))
            assert (await consolidator.run(ConsolidateRequest())).groups == ()
    assert made
    assert undone


class Two:
    """Knows an administrator and a writer."""

    async def identify(self, hash: str) -> Identity | None:
        scopes = {key_hash("admin"): Scope.ADMIN, key_hash("write"): Scope.WRITE}
        return None if hash not in scopes else Identity(key_id="k", name="tests", scope=scopes[hash])


async def test_only_an_administrator_consolidates(tmp_path: Path) -> None:
    """A key that may write is refused; a request says nothing of writing and nothing is written; undoing answers."""
    async with opened(tmp_path / "store.db") as (store, door, _, consolidator):

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            yield

        app = create_app(
            "memory",
            routers=[consolidate.routes(consolidator)],
            holder=Two(),
            allowed_hosts=["memory"],
            ready=store.ping,
            lifespan=lifespan,
        )
        await door.write([_create("a"), _create("b")])
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://memory") as client:
            for path, body in (("", {}), ("/undo", {"episode_ids": ["a"]})):
                refused = await client.post(
                    f"/api/episodes/consolidate{path}", json=body, headers={"X-API-Key": "write"}
                )
                assert refused.status_code == 403
            client.headers["X-API-Key"] = "admin"
            said = (await client.post("/api/episodes/consolidate", json={})).json()
            assert (said["dry_run"], said["superseded"], said["groups"][0]["episode_id"]) == (True, 2, None)
            assert sorted(await store.get(["a", "b"])) == ["a", "b"]
            assert not any(one.superseded_by for one in (await store.get(["a", "b"])).values())
            done = (await client.post("/api/episodes/consolidate", json={"dry_run": False})).json()
            undo = {"episode_ids": [done["groups"][0]["episode_id"]]}
            assert (await client.post("/api/episodes/consolidate/undo", json=undo)).json() == {"changed": 1}
            bad = await client.post("/api/episodes/consolidate/undo", json={"episode_ids": ["a"]})
            assert (bad.status_code, bad.json()["error"]["code"]) == (400, "bad_request")
