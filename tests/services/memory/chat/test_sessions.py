"""Deletions of conversations that are cut short. What every store promises is in `tests/contract/test_chat`."""

from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from anamnesis.contracts.chat import ChatSessionCreate, ChatTurn, TurnState
from anamnesis.kit.errors import NotFound, Unavailable
from services.memory.blocklist import Blocks
from services.memory.chat import documents
from services.memory.chat.sessions import Sessions
from services.memory.door import Door
from services.memory.stores.base import Edit
from services.memory.stores.sqlite import SqliteStore
from tests.services.memory.conftest import OneVector

BEGAN = datetime(2026, 5, 1, tzinfo=UTC)
KINDS = (documents.SESSIONS, documents.ORDER, documents.TURNS, documents.MENTIONS, documents.GOING)


class Ending(SqliteStore):
    """Takes so many edits more, and then ends as if the machine did."""

    edits_left: int | None = None

    async def edit(self, edits: Sequence[Edit]) -> bool:
        if self.edits_left is not None:
            self.edits_left -= 1
            if self.edits_left < 0:
                raise Unavailable("the machine ends here")
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
