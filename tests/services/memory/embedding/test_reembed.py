import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.embedding import ReembedState
from anamnesis.kit.errors import Conflict, StorageFull, Unavailable
from services.memory.embedding import reembed
from services.memory.embedding.gate import Gate
from services.memory.embedding.reembed import ACTIVE, KIND, PLAN
from services.memory.search.text import terms
from services.memory.stores.base import CandidateQuery, Filter, Vectors
from services.memory.stores.sqlite import SqliteStore
from tests.services.memory.embedding.store_kit import (
    NEW,
    OLD,
    OTHER,
    Desk,
    Hashed,
    Slow,
    episode,
    hashed,
    until_idle,
)


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "store.db")
    await opened.open()
    yield opened
    await opened.close()


async def _with(store: SqliteStore, episodes: int, *encoders: Hashed, gate: Gate | None = None) -> Desk:
    desk = Desk(store, *encoders, gate=gate)
    await desk.open()
    for start in range(0, episodes, 500):
        await desk.write([episode(number) for number in range(start, min(episodes, start + 500))])
    return desk


async def _found(desk: Desk, number: int) -> float | None:
    """The cosine under which the active model finds an episode by its own text."""
    text = episode(number).summary
    query = CandidateQuery(desk.active.name, hashed(desk.active, text)[0], tuple(terms(text)), Filter(), 3)
    candidates = await desk.store.candidates(query)
    return next((one.dense for one in candidates.found if one.episode_id == f"ep-{number:05}"), None)


async def _until(desk: Desk, done: int) -> None:
    async with asyncio.timeout(30):
        while (await desk.reembedder.status()).done < done:  # noqa: ASYNC110 - asked as a client does
            await asyncio.sleep(0.005)


async def test_a_store_moves_to_another_model(store: SqliteStore) -> None:
    """At the end every episode has the new model's vectors, searches use them, and the old ones are gone."""
    desk = await _with(store, 120)
    status = await desk.reembedder.start("new", 25)
    assert (status.state, status.total, status.done) == (ReembedState.RUNNING, 120, 0)
    await until_idle(desk)
    status = await desk.reembedder.status()
    assert (status.state, status.done, status.total, status.error) == (ReembedState.IDLE, 120, 120, None)
    assert status.finished_at is not None
    assert desk.active == NEW
    assert await store.count_missing("new") == 0
    assert await store.count_missing("old") == 120
    assert await _found(desk, 77) == pytest.approx(1, abs=1e-5)
    kept = await store.read(KIND, ACTIVE)
    assert kept is not None
    assert kept.value == {"model": "new"}


async def test_searches_stay_with_the_old_model_until_the_new_is_complete(store: SqliteStore) -> None:
    """Half-way the active model is the old one and finds everything; the new vectors take no part."""
    new = Hashed(NEW, permits=2)
    desk = await _with(store, 100, new)
    await desk.reembedder.start("new", 10)
    await _until(desk, 20)
    assert desk.active == OLD
    assert [await _found(desk, number) for number in (0, 50, 99)] == pytest.approx([1, 1, 1], abs=1e-5)
    assert await store.read(KIND, ACTIVE) is None
    new.permit(1000)
    await until_idle(desk)
    assert desk.active == NEW


async def test_batches_are_checkpoints(store: SqliteStore) -> None:
    """No batch holds more episodes than the checkpoint says, and each is in the store once it is done."""
    new = Hashed(NEW, permits=0)
    desk = await _with(store, 60, new)
    await desk.reembedder.start("new", 7)
    new.permit(1)
    await _until(desk, 7)
    new.permit(2)
    await _until(desk, 21)
    assert await store.count_missing("new") == 39
    new.permit(100)
    await until_idle(desk)
    assert max(new.batches) == 7
    assert sum(new.batches) == 60


async def test_batches_are_bounded_whatever_the_checkpoint(store: SqliteStore) -> None:
    """A huge checkpoint does not bring the whole store into memory."""
    new = Hashed(NEW)
    desk = await _with(store, 600, new)
    await desk.reembedder.start("new", 10_000)
    await until_idle(desk)
    assert max(new.batches) == 250
    assert sum(new.batches) == 600


async def test_pause_and_resume(store: SqliteStore) -> None:
    """A pause keeps the batches in work and stays one over a restart; resuming goes on, not over."""
    new = Hashed(NEW, permits=3)
    desk = await _with(store, 200, new)
    await desk.reembedder.start("new", 10)
    await _until(desk, 30)
    assert (await desk.reembedder.pause()).state is ReembedState.PAUSED
    new.permit(8)  # those in work
    await until_idle(desk)
    done = (await desk.reembedder.status()).done
    assert done == sum(new.batches)
    assert 30 < done < 200
    assert new.closed

    again = Desk(store)
    await again.open()
    await asyncio.sleep(0.05)
    status = await again.reembedder.status()
    assert (status.state, status.done, status.model) == (ReembedState.PAUSED, done, "new")
    await again.reembedder.resume()
    await until_idle(again)
    assert again.active == NEW
    assert sum(again.encoders["new"].batches) == 200 - done


async def test_a_stop_saves_the_batch_in_work_and_a_start_goes_on(store: SqliteStore) -> None:
    """Stopped in the middle, what was in work is kept; the next start goes on by itself."""
    new = Hashed(NEW, permits=3, pause=0.02)
    desk = await _with(store, 200, new)
    await desk.reembedder.start("new", 10)
    await _until(desk, 20)
    new.permit(1)
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(desk.reembedder.close())
    new.permit(8)
    await closing
    done = 200 - await store.count_missing("new")
    assert done == sum(new.batches)
    assert 30 <= done < 200

    again = Desk(store)
    await again.open()
    await until_idle(again)
    assert again.active == NEW
    assert sum(again.encoders["new"].batches) == 200 - done


class OneByOne(Hashed):
    """An encoder that embeds one text after the other, and looks between them whether it is to stop."""

    async def embed(
        self, texts: Sequence[str], *, background: bool = False, stop: asyncio.Event | None = None
    ) -> list[Vectors]:
        done: list[Vectors] = []
        for text in texts:
            if stop is not None and stop.is_set():
                break
            done += await super().embed([text])
        return done


async def test_a_stop_saves_the_episodes_that_are_done(store: SqliteStore) -> None:
    """Of a batch that would take too long, the episodes embedded by the time of the stop are kept."""
    new = OneByOne(NEW, permits=20)
    desk = await _with(store, 50, new)
    await desk.reembedder.start("new", 50)
    async with asyncio.timeout(30):
        while len(new.batches) < 20:  # noqa: ASYNC110 - the encoder tells nobody
            await asyncio.sleep(0.005)
    closing = asyncio.create_task(desk.reembedder.close())
    await asyncio.sleep(0)
    new.permit(1)
    await closing
    assert 50 - await store.count_missing("new") == 21


async def test_a_pause_that_cannot_be_kept_changes_nothing(tmp_path: Path) -> None:
    """Where the store is away when a pause is asked for, that is told, and the move goes on to its end."""
    store = Forgetful(tmp_path / "store.db")
    await store.open()
    new = Hashed(NEW, permits=2)
    desk = await _with(store, 40, new)
    await desk.reembedder.start("new", 10)
    store.away = True
    with pytest.raises(Unavailable):
        await desk.reembedder.pause()
    store.away = False
    assert (await desk.reembedder.status()).state is ReembedState.RUNNING
    new.permit(10)
    await until_idle(desk)
    assert desk.active == NEW
    await store.close()


class Forgetful(SqliteStore):
    """A store that keeps no documents while it is away."""

    away = False

    async def write(self, kind: str, key: str, value: JsonObject, expect: int | None = None) -> int | None:
        if self.away:
            raise Unavailable("away")
        return await super().write(kind, key, value, expect)


@pytest.mark.parametrize("again", ["start", "resume"])
async def test_a_move_without_a_task_can_be_taken_up(store: SqliteStore, again: str) -> None:
    """A move that is kept as running, but has ended, goes on when it is started or resumed."""
    new = Hashed(NEW, permits=2)
    desk = await _with(store, 40, new)
    await desk.reembedder.start("new", 10)
    await desk.reembedder.close(seconds=0.1)
    new.permit(10)
    await (desk.reembedder.resume() if again == "resume" else desk.reembedder.start("new", 10))
    await until_idle(desk)
    assert desk.active == NEW


async def test_a_stop_does_not_wait_for_ever(store: SqliteStore) -> None:
    """A batch that does not end in time is given up at a stop; it is done again later."""
    desk = await _with(store, 20, Hashed(NEW, permits=0))
    await desk.reembedder.start("new", 10)
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        await desk.reembedder.close(seconds=0.1)
    assert await store.count_missing("new") == 20


async def test_writers_are_never_left_behind(store: SqliteStore) -> None:
    """However many write while the model is switched, every episode ends with the new model's vectors."""
    desk = await _with(store, 200, Hashed(NEW, pause=0.002))
    desk.encoder = Hashed(OLD, pause=0.003)
    numbers = iter(range(1000, 100_000))
    stop = asyncio.Event()

    async def writer() -> None:
        while not stop.is_set():
            await desk.write([episode(next(numbers)) for _ in range(3)])

    writers = [asyncio.create_task(writer()) for _ in range(4)]
    await asyncio.sleep(0.05)
    await desk.reembedder.start("new", 10)
    await until_idle(desk)
    await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*writers)
    assert desk.active == NEW
    assert await store.count_missing("new") == 0
    vectors = await store.vectors("new", [f"ep-{number:05}" for number in range(1000, next(numbers))])
    assert {rows.shape for rows in vectors.values()} == {(1, 12)}


class Watched(Gate):
    """Counts how often writers are shut out."""

    def __init__(self) -> None:
        super().__init__()
        self.shut_out = 0

    @asynccontextmanager
    async def alone(self, timeout: float) -> AsyncIterator[None]:
        self.shut_out += 1
        async with super().alone(timeout):
            yield


async def _beside_writers(store: SqliteStore, new: Hashed, at_once: int, pause: float) -> int:
    """Move to `new` while four writers write so many episodes with such a pause; how often they were shut out."""
    gate = Watched()
    desk = await _with(store, 200, new, gate=gate)
    numbers = iter(range(1000, 1_000_000))
    stop = asyncio.Event()

    async def writer() -> None:
        while not stop.is_set():
            await desk.write([episode(next(numbers)) for _ in range(at_once)])
            await asyncio.sleep(pause)

    writers = [asyncio.create_task(writer()) for _ in range(4)]
    await desk.reembedder.start("new", 10)
    await until_idle(desk)
    stop.set()
    await asyncio.gather(*writers)
    assert desk.active == NEW
    assert await store.count_missing("new") == 0
    return gate.shut_out


async def test_writers_that_are_faster_than_the_new_model_do_not_outrun_it(store: SqliteStore) -> None:
    """Writers that bring in more than the new model embeds are shut out for moments, until it is through."""
    new = Slow(NEW, 0.02)  # 500 episodes a second at most, beside 2,000
    assert await _beside_writers(store, new, at_once=10, pause=0.02) > 1


async def test_writers_that_bring_in_little_are_left_alone(store: SqliteStore) -> None:
    """However long a batch takes, writers who are slower than it are shut out for nothing but the switch."""
    new = Slow(NEW, 0.2)  # 50 episodes a second, beside 20 at most
    assert await _beside_writers(store, new, at_once=1, pause=0.2) == 1


async def test_a_text_that_changes_meanwhile_is_embedded_anew(store: SqliteStore) -> None:
    """An episode that is rewritten while its old text is being embedded ends with vectors of its new text."""
    new = Hashed(NEW, permits=0)
    desk = await _with(store, 5, new)
    await desk.reembedder.start("new", 5)
    await new.begun.wait()  # the batch has been read
    changed = episode(2, "It was something else altogether.")
    await desk.write([changed], replace=True)
    new.permit(10)
    await until_idle(desk)
    vectors = await store.vectors("new", ["ep-00002"])
    np.testing.assert_allclose(vectors["ep-00002"], hashed(NEW, changed.summary), atol=1e-6)


async def test_the_active_model_is_completed(store: SqliteStore) -> None:
    """Episodes that came in without vectors get them; there is nothing to switch or drop."""
    desk = await _with(store, 10)
    await store.drop_vectors("old")
    await desk.reembedder.start("old", 25)
    await until_idle(desk)
    assert await store.count_missing("old") == 0
    assert desk.active == OLD
    assert not desk.encoders["old"].closed
    assert (await desk.reembedder.status()).state is ReembedState.IDLE


async def test_one_move_at_a_time(store: SqliteStore) -> None:
    """While a move runs the same again changes nothing, another is refused, and nothing else can be resumed."""
    new = Hashed(NEW, permits=0)
    desk = await _with(store, 20, new)
    with pytest.raises(Conflict):
        await desk.reembedder.pause()
    with pytest.raises(Conflict):
        await desk.reembedder.resume()
    first = await desk.reembedder.start("new", 5)
    assert (await desk.reembedder.start("new", 7)).started_at == first.started_at
    with pytest.raises(Conflict, match="being moved to new"):
        await desk.reembedder.start("other", 5)
    new.permit(100)
    await until_idle(desk)


async def test_a_change_of_mind_leaves_nothing(store: SqliteStore) -> None:
    """Paused and moved to a third model instead, the vectors of the abandoned one are removed."""
    new = Hashed(NEW, permits=2)
    desk = await _with(store, 40, new)
    await desk.reembedder.start("new", 10)
    await _until(desk, 20)
    await desk.reembedder.pause()
    new.permit(4)
    await until_idle(desk)
    await desk.reembedder.start("other", 10)
    await until_idle(desk)
    assert desk.active == OTHER
    assert [await store.count_missing(name) for name in ("old", "new", "other")] == [40, 40, 0]


async def test_what_passes_is_waited_for(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker or database that is away for a moment does not end a re-embedding."""
    new = Hashed(NEW)
    new.faults = [Unavailable("away"), Unavailable("away")]
    desk = await _with(store, 40, new)
    monkeypatch.setattr(reembed, "_FIRST_PAUSE", 0.01)
    await desk.reembedder.start("new", 10)
    await until_idle(desk)
    assert desk.active == NEW


@pytest.mark.parametrize("fault", [StorageFull("no room on the disk"), *[Unavailable("no room on the disk")]])
async def test_what_stays_is_told(store: SqliteStore, fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not pass ends in `failed` with the reason; the old model serves on, and a resume goes on."""
    new = Hashed(NEW)
    new.faults = [fault] * 20
    desk = await _with(store, 40, new)
    monkeypatch.setattr(reembed, "_FIRST_PAUSE", 0.001)
    await desk.reembedder.start("new", 10)
    await until_idle(desk)
    status = await desk.reembedder.status()
    assert (status.state, status.error) == (ReembedState.FAILED, "no room on the disk")
    assert await _found(desk, 3) == pytest.approx(1, abs=1e-5)
    new.faults.clear()
    await desk.reembedder.resume()
    await until_idle(desk)
    assert (desk.active, (await desk.reembedder.status()).error) == (NEW, None)


async def test_an_unforeseen_error_is_told_without_content(store: SqliteStore) -> None:
    """A bug ends in `failed` with its type and place, not with what was being embedded."""
    new = Hashed(NEW)
    new.faults = [RuntimeError("secret text")]
    desk = await _with(store, 5, new)
    await desk.reembedder.start("new", 10)
    await until_idle(desk)
    error = (await desk.reembedder.status()).error
    assert error is not None
    assert error.startswith("RuntimeError at ")
    assert "secret" not in error


async def test_progress_has_rate_and_eta(store: SqliteStore) -> None:
    """Half-way the status tells episodes a second, as the encoder and the clock have it, and the seconds left."""
    desk = await _with(store, 200, Slow(NEW, 0.1))
    began = time.monotonic()
    await desk.reembedder.start("new", 10)
    await _until(desk, 100)
    status = await desk.reembedder.status()
    # The encoder gives 100 a second at most (a half more, as the first batch may be long in being written); the clock
    # says what it was at least (the first batch begins it, and the last two may not be counted yet).
    least, most = (status.done - 30) / (time.monotonic() - began), 150
    assert status.episodes_per_second is not None
    assert least <= status.episodes_per_second <= most
    assert status.eta_seconds is not None
    assert (200 - status.done) / most <= status.eta_seconds <= (200 - status.done) / least
    await until_idle(desk)


async def test_an_empty_store_switches_at_once(store: SqliteStore) -> None:
    """With nothing to embed the model changes all the same."""
    desk = await _with(store, 0)
    await desk.reembedder.start("new", 25)
    await until_idle(desk)
    assert desk.active == NEW


_VICTIM = """
import asyncio, sys
from pathlib import Path
from services.memory.stores.sqlite import SqliteStore
from tests.services.memory.embedding.store_kit import NEW, OLD, Desk, Hashed

class Told(Hashed):
    async def embed(self, texts, *, background=False, stop=None):
        vectors = await super().embed(texts, background=background)
        print("batch", flush=True)
        return vectors

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    desk = Desk(store, Told(NEW, pause=0.02), Hashed(OLD))
    await desk.open()
    if not desk.reembedder.busy:
        await desk.reembedder.start(sys.argv[2], 4)
    while desk.reembedder.busy:
        await asyncio.sleep(0.01)
    print("done", flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
async def test_kill_nine_loses_at_most_the_batches_in_work(tmp_path: Path) -> None:
    """Killed again and again at random moments, a move goes on by itself, ends complete, and never mixes models."""
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    await store.open()
    await _with(store, 400)
    await store.close()
    chance = random.Random(11)
    kills, last = 0, 0
    for _ in range(40):
        victim = subprocess.Popen(  # noqa: ASYNC220 - the loop has nothing else to do
            [sys.executable, "-c", _VICTIM, str(path), "new"], stdout=subprocess.PIPE, text=True
        )
        assert victim.stdout is not None
        # So many of the 100 batches, whatever this machine's speed, and a little into the next.
        said = [victim.stdout.readline() for _ in range(chance.randint(10, 20))]
        time.sleep(chance.uniform(0, 0.01))  # noqa: ASYNC251 - the loop has nothing else to do
        os.kill(victim.pid, signal.SIGKILL)
        said += victim.communicate()[0].splitlines(keepends=True)
        if "done\n" in said:
            break
        kills += 1
        store = SqliteStore(path)
        await store.open()
        active = await store.read(KIND, ACTIVE)
        done = 400 - await store.count_missing("new")
        assert done >= last  # nothing that was saved is lost
        last = done
        assert active is None or done == 400  # searched with the new model only when it is complete
        await store.close()
    assert kills >= 3
    store = SqliteStore(path)
    await store.open()
    assert await store.count_missing("new") == 0
    assert await store.count_missing("old") == 400
    plan = await store.read(KIND, PLAN)
    assert plan is not None
    assert (plan.value["state"], plan.value["drop"]) == ("idle", [])
    vectors = await store.vectors("new", [f"ep-{number:05}" for number in range(400)])
    for number in range(400):
        np.testing.assert_allclose(vectors[f"ep-{number:05}"], hashed(NEW, episode(number).summary), atol=1e-6)
    await store.close()
