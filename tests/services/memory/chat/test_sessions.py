"""Conversations whose deletion is cut short, or that are written while an episode is forgotten.

What every store promises is in `tests/contract/test_chat`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from anamnesis.contracts.chat import ChatSessionCreate, ChatTurn, TurnState
from anamnesis.contracts.episodes import Episode, EpisodeCreate
from anamnesis.kit.errors import NotFound, Unavailable
from services.memory.blocklist import Blocks
from services.memory.chat import documents
from services.memory.chat.sessions import Sessions
from services.memory.door import Door
from services.memory.removal import Remover
from services.memory.stores.base import Edit
from services.memory.stores.sqlite import SqliteStore
from tests.services.memory.conftest import OneVector

BEGAN = datetime(2026, 5, 1, tzinfo=UTC)
KINDS = (documents.SESSIONS, documents.ORDER, documents.TURNS, documents.MENTIONS, documents.GOING)


class Ending(SqliteStore):
    """Takes so many edits more, and then ends as if the machine did."""

    edits_left: int | None = None
    meanwhile: Callable[[], Awaitable[object]] | None = None
    """Happens just before the next edit."""

    async def edit(self, edits: Sequence[Edit]) -> bool:
        if self.edits_left is not None:
            self.edits_left -= 1
            if self.edits_left < 0:
                raise Unavailable("the machine ends here")
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return await super().edit(edits)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Ending]:
    opened = Ending(tmp_path / "chats.db")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def sessions(store: Ending) -> AsyncIterator[Sessions]:
    with ThreadPoolExecutor(1) as workers:
        blocks = Blocks()
        made = Sessions(store, Door(store, blocks, OneVector(), workers), blocks, together=2)
        await made.create(ChatSessionCreate(session_id="a", title="About zeppelins"))
        for number in range(1, 6):
            turn = ChatTurn(turn=number, asked="Why?", state=TurnState.COMPLETE, started_at=BEGAN)
            await made.write("a", turn)
        yield made


async def _documents(store: Ending) -> int:
    return sum([len(await store.list(kind)) for kind in KINDS])


@pytest.mark.parametrize("edits", [1, 2, 3])
async def test_a_deletion_that_is_cut_short_shows_nothing(sessions: Sessions, store: Ending, edits: int) -> None:
    """Wherever it ends, nothing of the session is seen any more, and the next start clears away the rest."""
    store.edits_left = edits
    with pytest.raises(Unavailable):
        await sessions.delete("a")
    store.edits_left = None
    assert await _documents(store) > 0
    assert (await sessions.page(0, 5)).sessions == ()
    with pytest.raises(NotFound):
        await sessions.turns("a", None, 5)
    await sessions.finish()
    assert await _documents(store) == 0


@pytest.mark.parametrize("edits", [0, 1, 2])
async def test_a_deletion_can_be_repeated(sessions: Sessions, store: Ending, edits: int) -> None:
    """What failed before anything was changed, or half-way, is finished by asking again."""
    store.edits_left = edits
    with pytest.raises(Unavailable):
        await sessions.delete("a")
    store.edits_left = None
    assert await sessions.delete("a") is (edits == 0)
    assert await _documents(store) == 0


async def test_a_new_session_takes_nothing_over_from_a_deleted_one(sessions: Sessions, store: Ending) -> None:
    """Turns that a crash has left do not show under the same id."""
    store.edits_left = 2
    with pytest.raises(Unavailable):
        await sessions.delete("a")
    store.edits_left = None
    await sessions.create(ChatSessionCreate(session_id="a", title="Anew"))
    assert (await sessions.turns("a", None, 5)).turns == ()


async def test_a_start_goes_on_while_the_store_is_away(sessions: Sessions, store: Ending) -> None:
    """Clearing away is tried again by the next start; this one does not fail over it."""
    store.edits_left = 1
    with pytest.raises(Unavailable):
        await sessions.delete("a")
    await sessions.finish()
    store.edits_left = None
    await sessions.finish()
    assert await _documents(store) == 0


async def _showing(sessions: Sessions) -> ChatTurn:
    """A turn that shows an episode which there is."""
    await sessions.door.write([EpisodeCreate(episode_id="ep_1", instance="i", project="p", summary="I am Yusuf.")])
    return ChatTurn.model_validate(
        {
            "turn": 6,
            "asked": "Who?",
            "state": "complete",
            "started_at": BEGAN,
            "recalled": [
                {
                    "episode_id": "ep_1",
                    "timestamp": BEGAN,
                    "project": "p",
                    "instance": "i",
                    "summary": "I am Yusuf.",
                    "source": "api",
                    "trust": "user",
                    "score": 1.0,
                }
            ],
        }
    )


async def test_what_is_forgotten_while_a_turn_is_written_leaves_it(sessions: Sessions, store: Ending) -> None:
    """The turn reaches the store after the forgetting has looked for such turns: its writer takes the words out."""
    turn = await _showing(sessions)
    remover = Remover(store, sessions.blocks, wipe=sessions.forget)
    store.meanwhile = lambda: remover.forget("ep_1")
    await sessions.write("a", turn)
    assert "Yusuf" not in str(await store.list(documents.TURNS))


async def test_a_turn_that_is_written_while_something_is_forgotten_is_found(sessions: Sessions, store: Ending) -> None:
    """The turn reaches the store before its writer can know: the forgetting looks once more at its end."""
    turn = await _showing(sessions)
    looked = asyncio.Event()

    async def wipe(episodes: Mapping[str, Episode | None]) -> None:
        await sessions.forget(episodes)
        looked.set()

    async with sessions.blocks.changing:
        forgetting = asyncio.create_task(Remover(store, sessions.blocks, wipe=wipe).forget("ep_1"))
        await looked.wait()
        await sessions.write("a", turn)
        assert "Yusuf" in str(await store.list(documents.TURNS))
    await forgetting
    assert "Yusuf" not in str(await store.list(documents.TURNS))
