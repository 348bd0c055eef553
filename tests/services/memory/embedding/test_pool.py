import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from anamnesis.contracts.embedding import CpuShare, EmbeddingModel
from anamnesis.kit.errors import BadRequest, Busy, DeadlineExceeded, TooLarge, Unavailable
from services.memory.embedding import cpu, room
from services.memory.embedding.pool import EmbeddingPool, PoolOptions, _Slot
from services.memory.embedding.process import WorkerProcess
from services.memory.embedding.wire import Load
from tests.services.memory.embedding.conftest import OpenPool

FP32 = PoolOptions(precision="fp32")
TEXTS = [
    "The upload test was flaky because two workers shared one temporary directory.",
    "short",
    "Wir haben die Zeitzone vergessen; 東京では別の日でした.",
    "",
    " ".join(f"step {number} of a long account" for number in range(40)),
]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiny_pool(tiny: EmbeddingModel, open_pool: OpenPool) -> AsyncIterator[EmbeddingPool]:
    """One worker for all tests that leave the pool as they found it; started with a secret in our environment."""
    prefixed = tiny.model_copy(update={"query_prefix": "query: ", "passage_prefix": "passage: "})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANAMNESIS_API_KEY", "sk-very-secret")
        async with open_pool(prefixed, PoolOptions(precision="fp32", queue_limit=100, remembered=2)) as pool:
            yield pool


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shipped_pool(shipped: EmbeddingModel, open_pool: OpenPool) -> AsyncIterator[EmbeddingPool]:
    async with open_pool(shipped) as pool:
        yield pool


def _encode(model: EmbeddingModel, texts: list[str]) -> NDArray[np.float32]:
    """sentence-transformers' own answer, in this process."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    loaded = SentenceTransformer(str(model.path), device="cpu", local_files_only=True)
    encoded: NDArray[np.float32] = loaded.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    return encoded


def _cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    cosines: NDArray[np.float32] = np.einsum("n d, n d -> n", one, other)
    return cosines


def _cores(pid: int) -> set[frozenset[int]]:
    """The affinities of all threads of a process, as the kernel keeps them."""
    return {frozenset(os.sched_getaffinity(int(thread))) for thread in os.listdir(f"/proc/{pid}/task")}


async def _gone(pid: int, seconds: float = 10.0) -> bool:
    for _ in range(1 + int(seconds / 0.05)):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        await asyncio.sleep(0.05)
    return False


async def _some_are_done(pool: EmbeddingPool, before: int) -> None:
    """Wait until more than `before` texts have been embedded."""
    async with asyncio.timeout(60):
        while pool.stats().texts == before:  # noqa: ASYNC110 - the pool tells nobody
            await asyncio.sleep(0)


@pytest.mark.slow
async def test_vectors_are_those_of_the_library(shipped: EmbeddingModel, open_pool: OpenPool) -> None:
    """In fp32 the pool's vectors are sentence-transformers' own, in order, of unit length, as float32."""
    expected = _encode(shipped, TEXTS)
    async with open_pool(shipped, FP32) as pool:
        vectors = await pool.embed_passages(TEXTS)
        query = await pool.embed_query(TEXTS[0])
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert _cosines(vectors, expected).min() > 0.9999
    np.testing.assert_allclose(query, vectors[0], atol=1e-5)


async def test_bf16_is_measured_only_where_there_is_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without the instructions computes in fp32, whatever emulation could do."""
    (tmp_path / "cpuinfo").write_text("flags : fpu sse2 avx2\n")
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "cpuinfo")
    assert not cpu.bf16_is_faster()


@pytest.mark.slow
async def test_bf16_is_close_enough(shipped: EmbeddingModel, open_pool: OpenPool) -> None:
    """In bf16 a vector points where the fp32 one does, to a cosine of .999."""
    async with open_pool(shipped, PoolOptions(precision="bf16")) as pool:
        vectors = await pool.embed_passages(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert _cosines(vectors, _encode(shipped, TEXTS)).min() > 0.999


async def test_prefixes_are_applied(tiny: EmbeddingModel, tiny_pool: EmbeddingPool) -> None:
    """Questions and passages get the model's own prefixes, each its own."""
    expected = _encode(tiny, ["query: what broke", "passage: what broke"])
    query = await tiny_pool.embed_query("what broke")
    passage = (await tiny_pool.embed_passages(["what broke"]))[0]
    np.testing.assert_allclose(query, expected[0], atol=1e-5)
    np.testing.assert_allclose(passage, expected[1], atol=1e-5)
    assert np.abs(query - passage).max() > 1e-3


async def test_too_long_for_the_model_is_counted(tiny_pool: EmbeddingPool) -> None:
    """A text beyond the model's length is reported; one that fits exactly is not."""
    fits = " ".join(["memory"] * (tiny_pool.model.max_tokens - 4))  # two special tokens, two of the prefix
    await tiny_pool.embed_passages([fits])
    assert tiny_pool.stats().over_length == 0
    await tiny_pool.embed_passages([fits + " memory", "short"])
    assert tiny_pool.stats().over_length == 1
    with pytest.raises(TooLarge, match="cut it into windows"):
        await tiny_pool.embed_passages(["x" * 100_001])


async def test_surrogates_and_nothing_at_all(tiny_pool: EmbeddingPool) -> None:
    """Text that is no valid Unicode is embedded with replacements; no texts give no vectors."""
    assert (await tiny_pool.embed_passages(["a \ud800 b", "line\nbreak\x00"])).shape == (2, 32)
    assert (await tiny_pool.embed_passages([])).shape == (0, 32)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no sched_setaffinity")
async def test_cores_change_without_a_reload(tiny_pool: EmbeddingPool) -> None:
    """All threads of a worker move to other cores while it goes on with the model it has loaded."""
    (pid,) = tiny_pool.pids
    for core in (cpu.usable()[0], cpu.usable()[-1]):
        await tiny_pool.set_cpu(CpuShare(cores=(core,)))
        assert _cores(pid) == {frozenset({core})}
        assert (tiny_pool.pids, tiny_pool.cores) == ((pid,), (core,))
        await tiny_pool.embed_passages(["still there"])
    with pytest.raises(BadRequest):
        await tiny_pool.set_cpu(CpuShare(cores=(4095,)))
    assert _cores(pid) == {frozenset({core})}


@pytest.mark.skipif(len(cpu.usable()) < 2, reason="this machine gives us one core")
@pytest.mark.slow
async def test_workers_come_and_go_with_the_cores(tiny: EmbeddingModel, open_pool: OpenPool) -> None:
    """One worker a core: more cores start more, fewer end them, and the one that stays is never reloaded."""
    two = cpu.usable()[:2]
    async with open_pool(tiny, FP32, CpuShare(cores=two[:1])) as pool:
        (pid,) = pool.pids
        await pool.set_cpu(CpuShare(cores=two))
        for _ in range(1200):
            if len(pool.pids) == 2:
                break
            await asyncio.sleep(0.05)
        assert pool.pids[0] == pid
        other = pool.pids[1]
        await pool.set_cpu(CpuShare(cores=two[1:]))
        assert await _gone(other)
        assert pool.pids == (pid,)
        assert _cores(pid) == {frozenset(two[1:])}


@pytest.mark.slow
async def test_a_killed_worker_is_replaced(tiny: EmbeddingModel, open_pool: OpenPool) -> None:
    """A worker killed in the middle of its work is replaced, and what was asked for still comes, complete."""
    texts = [f"passage number {number} " * 20 for number in range(600)]
    async with open_pool(tiny, PoolOptions(precision="fp32", backoff=0.05)) as pool:
        expected = await pool.embed_passages(texts)
        (pid,) = pool.pids
        work = asyncio.create_task(pool.embed_passages(texts))
        await _some_are_done(pool, pool.stats().texts)
        assert not work.done()
        os.kill(pid, signal.SIGKILL)
        np.testing.assert_allclose(await work, expected, atol=1e-5)
        assert pool.stats().restarts == 1
        assert pool.pids != (pid,)


class _Hanging(EmbeddingPool):
    """A pool whose first two workers are stopped once they are ready: they hang, as far as it can tell."""

    hangs = 2

    async def _start_worker(self, slot: _Slot) -> WorkerProcess:
        worker = await super()._start_worker(slot)
        if self.hangs:
            self.hangs -= 1
            os.kill(worker.pid, signal.SIGSTOP)
        return worker


@pytest.mark.slow
async def test_a_text_that_hangs_workers_fails_alone(tiny: EmbeddingModel) -> None:
    """What costs two workers in a row is given up with an error; the pool goes on."""
    options = PoolOptions(precision="fp32", backoff=0.05, batch_timeout=5.0)
    pool = _Hanging(tiny, Path(str(tiny.path)), CpuShare(percent=1), options)
    await pool.start()
    try:
        with pytest.raises(Unavailable, match="lost twice"):
            await pool.embed_passages(["the culprit"])
        assert (await pool.embed_passages(["an innocent one"])).shape == (1, 32)
        assert (pool.stats().restarts, pool.stats().failed) == (2, 1)
    finally:
        await pool.close(drain=0)


async def test_full_queue_refuses(tiny_pool: EmbeddingPool) -> None:
    """Beyond the bound of the queue passages are refused at once with 429, and questions are still taken."""
    flood = asyncio.create_task(tiny_pool.embed_passages(["many words of a passage " * 30] * 2000))
    await asyncio.sleep(0)  # they are in the queue
    with pytest.raises(Busy) as refused:
        await tiny_pool.embed_passages(["one more"])
    assert refused.value.retry_after >= 1
    assert (await tiny_pool.embed_query("a question while they flood")).shape == (32,)
    assert not flood.done()
    flood.cancel()


async def test_the_background_waits_for_room(tiny_pool: EmbeddingPool) -> None:
    """Requests of a re-embedding that do not all fit into the queue wait for their turn; none is refused."""
    texts = [f"many words of passage {number} " * 10 for number in range(60)]
    lanes = [tiny_pool.embed_passages(texts, background=True) for _ in range(6)]  # 360 texts, of which 100 may wait
    first, *others = await asyncio.gather(*lanes)
    assert first.shape == (60, 32)
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-5)


async def test_deadline_is_kept(shipped_pool: EmbeddingPool) -> None:
    """A request that takes too long ends in an error at its deadline, and no worker goes on with it."""
    before = shipped_pool.stats().texts
    async with asyncio.timeout(30):
        with pytest.raises(DeadlineExceeded, match=r"not embedded within 0\.2 s"):
            await shipped_pool.embed_passages(["many words of a passage " * 40] * 2000, deadline=0.2)
        while shipped_pool.stats().queue_depth:  # noqa: ASYNC110 - the batches in work come to their end
            await asyncio.sleep(0.01)
    assert shipped_pool.stats().texts - before < 2000


async def test_a_question_overtakes_passages(shipped_pool: EmbeddingPool) -> None:
    """While passages flood the pool, a question waits for the batch in work at most, not for the queue."""
    flood = asyncio.create_task(shipped_pool.embed_passages(["many words of a passage " * 40] * 2000))
    await _some_are_done(shipped_pool, shipped_pool.stats().texts)
    before = shipped_pool.stats()
    await shipped_pool.embed_query("which test was flaky?")
    assert not flood.done()
    # The batch in work and the next one, of each worker: never the two thousand.
    assert shipped_pool.stats().texts - before.texts <= 2 * 64 * before.workers + 1
    flood.cancel()


async def test_a_known_question_costs_nothing(tiny_pool: EmbeddingPool) -> None:
    """The same question again is answered from memory, which is bounded."""
    one = await tiny_pool.embed_query("one")
    before = tiny_pool.stats().texts
    assert await tiny_pool.embed_query("one") is one
    assert tiny_pool.stats().texts == before
    for question in ("two", "three", "one"):
        await tiny_pool.embed_query(question)
    assert tiny_pool.stats().texts == before + 3


async def test_event_loop_is_free(shipped_pool: EmbeddingPool) -> None:
    """While passages are embedded this process does next to nothing: the processor's time goes to the workers."""
    workers = [psutil.Process(pid) for pid in shipped_pool.pids]
    own, theirs = time.process_time(), sum(worker.cpu_times().user for worker in workers)
    await shipped_pool.embed_passages(["many words of a passage " * 20] * 200)
    own, theirs = time.process_time() - own, sum(worker.cpu_times().user for worker in workers) - theirs
    assert own < theirs / 4


async def test_worker_knows_no_secrets(tiny_pool: EmbeddingPool) -> None:
    """The service's keys and addresses are not in a worker's environment, and it stays off the network."""
    environment = psutil.Process(tiny_pool.pids[0]).environ()
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert not [name for name in environment if name.startswith("ANAMNESIS")]


@pytest.mark.slow
async def test_close_leaves_nothing(tiny: EmbeddingModel) -> None:
    """Closing waits for what is under way, then ends the workers; later requests are refused."""
    pool = EmbeddingPool(tiny, Path(str(tiny.path)), CpuShare(percent=50), FP32)
    await pool.start()
    (pid,) = pool.pids
    work = asyncio.create_task(pool.embed_passages(["under way"] * 50))
    await asyncio.sleep(0)
    await pool.close()
    assert (await work).shape == (50, 32)
    assert await _gone(pid)
    with pytest.raises(Unavailable):
        await pool.embed_query("too late")


@pytest.mark.slow
async def test_a_broken_model_is_reported(tmp_path: Path, tiny: EmbeddingModel, open_pool: OpenPool) -> None:
    """A directory that does not load, or loads as something else, fails the start with the reason."""
    empty = tiny.model_copy(update={"path": str(tmp_path)})
    with pytest.raises(Unavailable, match="cannot be loaded"):
        async with open_pool(empty, FP32):
            pass
    other = tiny.model_copy(update={"dimension": 64})
    with pytest.raises(Unavailable, match="make vectors of 32 numbers"):
        async with open_pool(other, FP32):
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
@pytest.mark.slow
async def test_workers_die_with_their_parent(tiny: EmbeddingModel) -> None:
    """A service that is killed leaves no worker behind, even one in the middle of loading."""
    code = (
        "import asyncio, sys, pathlib\n"
        "from anamnesis.contracts.embedding import CpuShare, EmbeddingModel\n"
        "from services.memory.embedding.pool import EmbeddingPool\n"
        "async def main():\n"
        "    model = EmbeddingModel.model_validate_json(sys.argv[1])\n"
        "    pool = EmbeddingPool(model, pathlib.Path(model.path), CpuShare(percent=50))\n"
        "    task = asyncio.create_task(pool.start())\n"
        "    if sys.argv[2] == 'loaded': await task\n"
        "    else: await asyncio.sleep(0.5)\n"
        "    print('here', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    for moment in ("loading", "loaded"):
        parent = subprocess.Popen(  # noqa: ASYNC220 - the loop has nothing else to do
            [sys.executable, "-c", code, tiny.model_dump_json(), moment], stdout=subprocess.PIPE, text=True
        )
        assert parent.stdout is not None
        while parent.stdout.readline().strip() != "here":
            assert parent.poll() is None
        (worker,) = psutil.Process(parent.pid).children()
        parent.kill()
        parent.wait(10)
        parent.stdout.close()
        assert await _gone(worker.pid)


@pytest.mark.slow
async def test_a_pool_in_the_background_steps_forward(tiny: EmbeddingModel, open_pool: OpenPool) -> None:
    """Workers of a background pool are nice; promoted, they (or their successors) are not, and none was missed."""
    async with open_pool(tiny, PoolOptions(precision="fp32", nice=10)) as pool:
        assert psutil.Process(pool.pids[0]).nice() == 10
        await pool.promote(FP32)
        assert [psutil.Process(pid).nice() for pid in pool.pids] == [0]
        await pool.embed_query("still there")


@pytest.mark.skipif(len(cpu.usable()) < 2, reason="this machine gives us one core")
@pytest.mark.slow
async def test_memory_bounds_the_workers(tiny: EmbeddingModel, open_pool: OpenPool) -> None:
    """There are no more workers than fit into the memory given, and one at least; a promotion may bring more."""
    assert tiny.path is not None
    two = CpuShare(cores=cpu.usable()[:2])
    one = room.of_a_worker(Path(tiny.path))
    async with open_pool(tiny, replace(FP32, memory=1, nice=10), two) as pool:
        assert pool.stats().workers == 1
        await pool.promote(replace(FP32, memory=2 * one - 1))
        assert pool.stats().workers == 1
        await pool.promote(replace(FP32, memory=2 * one))
        assert pool.stats().workers == 2


@pytest.mark.slow
async def test_promotion_without_the_right(
    tiny: EmbeddingModel, open_pool: OpenPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system does not let a process be less nice, successors take the place of nice workers one by one."""

    def refuse(which: int, who: int, priority: int) -> None:
        raise PermissionError

    cores = cpu.usable()[:2]
    before = {child.pid for child in psutil.Process().children()}
    async with open_pool(tiny, PoolOptions(precision="fp32", nice=10), CpuShare(cores=cores)) as pool:
        async with asyncio.timeout(60):
            while len(pool.pids) < len(cores):  # noqa: ASYNC110 - processes tell nobody
                await asyncio.sleep(0.05)
        nice = pool.pids
        monkeypatch.setattr(os, "setpriority", refuse)
        promotion = asyncio.create_task(pool.promote(FP32))
        most = 0
        while not promotion.done():
            assert len(pool.pids) >= len(cores)
            workers = {child.pid for child in psutil.Process().children()} - before
            most = max(most, len(workers - {pid for pid in nice if await _gone(pid, 0)}))
            await asyncio.sleep(0.01)
        await promotion
        for pid in nice:
            assert await _gone(pid)
        assert [psutil.Process(pid).nice() for pid in pool.pids] == [0] * len(cores)
        assert most <= len(cores) + 1


@pytest.mark.slow
async def test_memory_of_a_worker_is_bounded(shipped_pool: EmbeddingPool) -> None:
    """Batches of ever other lengths do not make a worker grow by more than 200 MB."""
    worker = psutil.Process(shipped_pool.pids[0])
    before = worker.memory_info().rss
    for seed in range(4):
        words = [(seed * 37 + number * 11) % 60 + 1 for number in range(60)]
        await asyncio.gather(*(shipped_pool.embed_passages([f"{number} words " * number]) for number in words))
    assert worker.memory_info().rss - before < 200 * 2**20


async def test_a_worker_that_cannot_be_started_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that refuses a new process is told as such, and the pool tries again later."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    load = Load(directory="/nowhere", max_tokens=16, precision="fp32", threads=1, nice=0, parent=os.getpid())
    with pytest.raises(Unavailable, match="No such file"):
        await WorkerProcess.start(load, (0,), 5.0)
