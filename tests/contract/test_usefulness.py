"""Counts of use over every store: there after a restart, and gone with their episode."""

from anamnesis.contracts.usefulness import EpisodeVerdict, Verdict
from services.memory.blocklist import Blocks
from services.memory.removal import Remover
from services.memory.usefulness import Usefulness
from tests.contract.conftest import MakeStore
from tests.contract.records import make_record


async def test_counts_are_there_after_a_restart(make_store: MakeStore) -> None:
    """What was reported is held, shown and ranked by as before; deleting and forgetting end it."""
    first = make_store()
    await first.open()
    await first.insert([make_record(f"ep_{name}") for name in "abcd"])
    usefulness = Usefulness(first)
    said = [("a", Verdict.UNUSED)] * 4 + [("b", Verdict.UNHELPFUL)] * 2 + [("c", Verdict.USED), ("d", Verdict.HELPFUL)]
    await usefulness.report([EpisodeVerdict(episode_id=f"ep_{name}", verdict=verdict) for name, verdict in said])
    before = await usefulness.summary()
    sinking = usefulness.unused([f"ep_{name}" for name in "abcdx"])
    assert set(sinking) == {"ep_a", "ep_b"}
    assert sinking["ep_a"] == sinking["ep_b"]
    await first.close()

    second = make_store()
    await second.open()
    try:
        again = Usefulness(second)
        await again.load()
        assert await again.summary() == before
        assert (before.injected, before.used, before.helpful, before.unhelpful) == (5, 1, 1, 2)
        assert [one.episode_id for one in before.never_used] == ["ep_b", "ep_a"]
        assert again.unused(["ep_a", "ep_b"]) == sinking
        remover = Remover(second, Blocks(), removed=again.removed)
        await remover.delete("ep_a", block=True)
        await remover.forget("ep_b")
        assert again.unused(["ep_a", "ep_b"]) == {}
        loaded = Usefulness(second)
        await loaded.load()
        after = await loaded.summary()
        assert after == await again.summary()
        assert (after.injected, after.unhelpful, after.never_used) == (1, 0, ())
    finally:
        await second.close()
