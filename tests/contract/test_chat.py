"""Conversations over every store: what is kept of them, who may write, and what forgetting takes out of them."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from anamnesis.contracts.base import now
from anamnesis.contracts.chat import (
    ChatSessionCreate,
    ChatTurn,
    Recalled,
    TurnBegin,
    TurnState,
)
from anamnesis.contracts.episodes import EpisodeCreate, EpisodeSource, Trust
from anamnesis.kit.errors import BadRequest, Conflict, NotFound, TooLarge
from services.memory.blocklist import Blocks
from services.memory.chat import documents
from services.memory.chat.search import Search
from services.memory.chat.sessions import LEFT, MAX_TITLES, Sessions
from services.memory.door import Door
from services.memory.removal import Remover
from services.memory.stores.base import SCAN_BYTES, Store
from tests.services.memory.conftest import OneVector

SECRET = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"
BEGAN = datetime(2026, 5, 1, tzinfo=UTC)
KINDS = (documents.SESSIONS, documents.ORDER, documents.TURNS, documents.MENTIONS, documents.GOING)


@pytest.fixture
async def sessions(store: Store) -> AsyncIterator[Sessions]:
    with ThreadPoolExecutor(1) as workers:
        blocks = Blocks()
        yield Sessions(store, Door(store, blocks, OneVector(), workers), blocks)


@pytest.fixture
def search(sessions: Sessions) -> Search:
    assert isinstance(sessions.door.workers, ThreadPoolExecutor)
    return Search(sessions, sessions.door.workers, seconds=30.0)


async def _session(sessions: Sessions, session_id: str, title: str = "A talk", project: str | None = None) -> str:
    made = await sessions.create(ChatSessionCreate(session_id=session_id, title=title, project=project))
    return made.session_id


def _turn(number: int, asked: str = "Why?", answered: str = "Because.", **more: object) -> ChatTurn:
    given = {"state": TurnState.COMPLETE, "started_at": BEGAN + timedelta(minutes=number), **more}
    return ChatTurn.model_validate({"turn": number, "asked": asked, "answered": answered, **given})


def _recalled(episode_id: str, summary: str) -> Recalled:
    return Recalled(
        episode_id=episode_id,
        timestamp=BEGAN,
        project="atlas",
        instance="laptop",
        summary=summary,
        source="api",
        trust=Trust.USER,
        score=0.9,
    )


async def _left(store: Store) -> str:
    """All that is stored of conversations."""
    return "".join([str(document) for kind in KINDS for document in await store.list(kind)])


async def _ids(sessions: Sessions, project: str | None = None) -> list[str]:
    return [one.session_id for one in (await sessions.page(0, 100, project)).sessions]


async def test_sessions_are_listed_by_their_last_turn(sessions: Sessions) -> None:
    """The one that was written to last comes first, in all and in its project; a new title moves nothing."""
    for name, project in (("a", "p"), ("b", None), ("c", "p"), ("d", "q")):
        await _session(sessions, name, project=project)
        await asyncio.sleep(0.002)
    assert await _ids(sessions) == ["d", "c", "b", "a"]
    await sessions.write("a", _turn(1))
    await sessions.rename("b", "Another title")
    assert await _ids(sessions) == ["a", "d", "c", "b"]
    assert await _ids(sessions, "p") == ["a", "c"]
    assert await _ids(sessions, "nobody") == []
    page = await sessions.page(1, 2)
    assert ([one.session_id for one in page.sessions], page.total) == (["d", "c"], 4)
    assert (await sessions.page(9, 2)).sessions == ()
    assert (await sessions.get("a")).turns == 1


async def test_an_id_is_taken_once(sessions: Sessions) -> None:
    """The id of another session, or one that is a path, is refused; without an id one is made."""
    await _session(sessions, "a", "The first")
    with pytest.raises(Conflict):
        await _session(sessions, "a", "The second")
    with pytest.raises(BadRequest):
        await _session(sessions, "search")
    assert (await sessions.get("a")).title == "The first"
    made = [await sessions.create(ChatSessionCreate(title="Mine")) for _ in range(2)]
    assert made[0].session_id != made[1].session_id


async def test_turns_come_in_pages_from_the_end(sessions: Sessions) -> None:
    """The newest page by default, oldest first within it; what lies before it is asked for by number."""
    await _session(sessions, "a")
    for number in range(1, 13):
        await sessions.write("a", _turn(number))
    await _session(sessions, "a.b")
    await sessions.write("a.b", _turn(1, "Of another session"))
    pages: list[list[int]] = []
    before: int | None = None
    while before != 1:
        page = await sessions.turns("a", before, 5)
        assert page.total == page.session.turns == 12
        pages.append([one.turn for one in page.turns])
        before = pages[-1][0]
    assert pages == [[8, 9, 10, 11, 12], [3, 4, 5, 6, 7], [1, 2]]
    assert (await sessions.turns("a", 1, 5)).turns == ()
    with pytest.raises(NotFound):
        await sessions.turns("none", None, 5)


async def test_a_page_of_long_turns_is_short(sessions: Sessions) -> None:
    """However long they are, a page fits into memory, and asking on shows them all."""
    await _session(sessions, "a")
    for number in range(1, 8):
        await sessions.write("a", _turn(number, answered="x" * (SCAN_BYTES // 5)))
    seen: list[int] = []
    while not seen or seen[0] > 1:
        page = [one.turn for one in (await sessions.turns("a", seen[0] if seen else None, 50)).turns]
        assert 1 <= len(page) <= 5
        seen = page + seen
    assert seen == [1, 2, 3, 4, 5, 6, 7]


async def test_writing_a_turn_again_changes_it(sessions: Sessions) -> None:
    """A repeated write counts once; a later one of the same turn brings its answer; the session follows."""
    before = await sessions.create(ChatSessionCreate(session_id="a", title="T"))
    running = _turn(1, answered="", state=TurnState.RUNNING, started_at=now())
    assert await sessions.write("a", running) == await sessions.write("a", running)
    done = running.model_copy(update={"state": TurnState.COMPLETE, "answered": "Yes.", "episode_id": "ep_1"})
    await sessions.write("a", done)
    page = await sessions.turns("a", None, 5)
    assert (page.turns, page.total) == ((done,), 1)
    assert page.session.updated_at >= before.updated_at
    with pytest.raises(Conflict):  # a write that was held up on its way
        await sessions.write("a", running)
    assert (await sessions.turns("a", None, 5)).turns == (done,)


async def test_numbers_have_no_gaps_and_no_two_owners(sessions: Sessions) -> None:
    """A number further on, or one that another turn has, is refused with how many there are."""
    await _session(sessions, "a")
    await sessions.write("a", _turn(1, "Mine"))
    for refused in (_turn(3), _turn(1, "Yours", started_at=BEGAN)):
        with pytest.raises(Conflict) as error:
            await sessions.write("a", refused)
        assert error.value.detail == {"turns": 1}
    assert [one.asked for one in (await sessions.turns("a", None, 5)).turns] == ["Mine"]
    with pytest.raises(NotFound):
        await sessions.write("none", _turn(1))


async def test_turns_that_begin_at_once_are_all_kept(sessions: Sessions) -> None:
    """Two tabs and more: each gets a number of its own, and titles changed meanwhile are kept too."""
    await _session(sessions, "a")
    begun = await asyncio.gather(
        *[sessions.begin("a", TurnBegin(asked=f"Question {n}", started_at=BEGAN)) for n in range(8)],
        sessions.rename("a", "Renamed"),
    )
    assert len(begun) == 9
    page = await sessions.turns("a", None, 20)
    assert [one.turn for one in page.turns] == list(range(1, 9))
    assert {one.asked for one in page.turns} == {f"Question {n}" for n in range(8)}
    assert (page.session.turns, page.session.title) == (8, "Renamed")
    assert await _ids(sessions) == ["a"]


async def test_two_that_write_the_same_number_do_not_overwrite_each_other(sessions: Sessions) -> None:
    """Of several next turns one is kept, and the others are told."""
    await _session(sessions, "a")
    turns = [_turn(1, f"{n}", started_at=BEGAN + timedelta(milliseconds=n)) for n in range(5)]
    done = await asyncio.gather(*[sessions.write("a", one) for one in turns], return_exceptions=True)
    kept = [one for one in done if isinstance(one, ChatTurn)]
    assert len(kept) == 1
    assert sum(isinstance(one, Conflict) for one in done) == 4
    assert (await sessions.turns("a", None, 5)).turns == tuple(kept)


async def test_secrets_stay_outside(sessions: Sessions) -> None:
    """Questions, answers, errors, titles and names pass the door, whichever way they come in."""
    text = f"The token {SECRET} <private>my diary</private>"
    made = await sessions.create(ChatSessionCreate(title=text, project=f"p {SECRET}", instance=f"i {SECRET}"))
    assert made.title.startswith("The token [REDACTED:")
    await sessions.rename(made.session_id, f"Now {SECRET}")
    await sessions.begin(made.session_id, TurnBegin(asked=text, started_at=BEGAN))
    place = {"project": f"p {SECRET}", "instance": f"i {SECRET}", "source": f"file: /home/{SECRET}"}
    recalled = (_recalled("ep_1", text).model_copy(update=place),)
    by = {"backend": f"b {SECRET}", "model": f"m {SECRET}"}
    kept = await sessions.write(
        made.session_id, _turn(2, text, text, error=text, state=TurnState.FAILED, recalled=recalled, **by)
    )
    assert kept.recalled[0].summary.startswith("The token [REDACTED:")
    assert kept.answered.startswith("The token [REDACTED:")
    everything = await _left(sessions.store)
    assert SECRET not in everything
    assert "diary" not in everything
    private = await sessions.write(made.session_id, _turn(3, "<private>all of it</private>", "", error=None))
    assert (private.asked, private.answered, private.error) == ("(private)", "", None)


async def test_what_cannot_be_stored_is_left_out(sessions: Sessions) -> None:
    """A NUL that a model wrote does no harm; a turn that is too large is refused and changes nothing."""
    await _session(sessions, "a")
    assert (await sessions.write("a", _turn(1, answered="a\x00b"))).answered == "ab"
    many = tuple(_recalled(f"ep_{n}", "\u20ac" * 20_000) for n in range(80))
    with pytest.raises(TooLarge):
        await sessions.write("a", _turn(2, recalled=many))
    assert (await sessions.get("a")).turns == 1


async def test_a_turn_that_was_left_is_shown_as_failed(sessions: Sessions) -> None:
    """What runs for longer than twenty minutes was left by a gateway that ended; a late answer is still taken."""
    await _session(sessions, "a")
    old = now() - timedelta(minutes=21)
    for moment in (old, now()):
        await sessions.begin("a", TurnBegin(asked="Why?", started_at=moment))
    left, running = (await sessions.turns("a", None, 5)).turns
    assert (left.state, left.error) == (TurnState.FAILED, LEFT)
    assert (running.state, running.error) == (TurnState.RUNNING, None)
    assert [one.state for page in [page async for page in sessions.each("a")] for one in page] == [
        TurnState.FAILED,
        TurnState.RUNNING,
    ]
    late = await sessions.write("a", _turn(1, started_at=old))
    assert (late.state, late.error) == (TurnState.COMPLETE, None)


async def test_earlier_titles_are_kept_and_bounded(sessions: Sessions) -> None:
    """Oldest first, the last fifty, each with the moment when it ended; the same title again changes nothing."""
    await _session(sessions, "a", "Title 0")
    for n in range(1, MAX_TITLES + 3):
        await sessions.rename("a", f"Title {n}")
    renamed = await sessions.rename("a", f"Title {MAX_TITLES + 2}")
    assert renamed == await sessions.get("a")
    assert [one.title for one in renamed.titles] == [f"Title {n}" for n in range(2, MAX_TITLES + 2)]
    assert [one.until for one in renamed.titles] == sorted(one.until for one in renamed.titles)
    with pytest.raises(NotFound):
        await sessions.rename("none", "Title")


async def test_deleting_leaves_nothing(sessions: Sessions) -> None:
    """A session goes with its turns and with what is known of them; others stay; repeating it is fine."""
    for name in ("a", "a.b"):
        await _session(sessions, name, project="p")
        await sessions.write(name, _turn(1, recalled=(_recalled("ep_1", "Words."),)))
    assert await sessions.delete("a")
    assert not await sessions.delete("a")
    assert '"a"' not in (await _left(sessions.store)).replace("'", '"')
    assert await _ids(sessions) == await _ids(sessions, "p") == ["a.b"]
    assert len((await sessions.turns("a.b", None, 5)).turns) == 1
    with pytest.raises(NotFound):
        await sessions.write("a", _turn(2))
    with pytest.raises(NotFound):
        await sessions.begin("a", TurnBegin(asked="Why?", started_at=BEGAN))
    await sessions.delete("a.b")
    assert await _left(sessions.store) == ""


async def test_all_words_must_occur_in_one_place(sessions: Sessions, search: Search) -> None:
    """Titles and turns, whatever their case, newest session first, with the text around the words."""
    await _session(sessions, "old", "About Zeppelins and lamps")
    await _session(sessions, "new", "A talk")
    await sessions.write("old", _turn(1, "What is a ZEPPELIN?", "An airship with lamps. " + "x " * 300))
    await sessions.write("old", _turn(2, "And a lamp?", "Another thing."))
    await asyncio.sleep(0.002)
    await sessions.write("new", _turn(1, "y " * 300 + "Lamps in the STRASSE, a zeppelin above" + " z" * 300))
    found = await search.find("zeppelin  Lamp", 10)
    assert [(one.session.session_id, one.turn) for one in found.results] == [("new", 1), ("old", None), ("old", 1)]
    assert found.complete
    excerpt = found.results[0].excerpt
    assert "Lamps in the STRASSE, a zeppelin above" in excerpt
    assert (excerpt[0], excerpt[-1]) == ("\u2026", "\u2026")
    assert len(excerpt) < 300
    assert [one.turn for one in (await search.find("stra\u00dfe", 10)).results] == [1]
    assert (await search.find("zeppelin umbrella", 10)).results == ()
    short = await search.find("lamp", 1)
    assert (len(short.results), short.complete) == (1, False)
    assert (await search.find("a", 100)).complete


async def test_a_search_ends_in_time(sessions: Sessions) -> None:
    """When its time is over it answers with what it has, and says that this is not all."""
    await _session(sessions, "a", "A zeppelin")
    assert isinstance(sessions.door.workers, ThreadPoolExecutor)
    found = await Search(sessions, sessions.door.workers, seconds=0.0).find("zeppelin", 5)
    assert (found.results, found.complete) == ((), False)


async def test_forgetting_takes_the_words_out_of_turns(sessions: Sessions) -> None:
    """The turn that became the episode is blank, others keep only its id, and nothing brings the words back."""
    store, door = sessions.store, sessions.door
    remover = Remover(store, sessions.blocks, wipe=sessions.forget)
    source = EpisodeSource(kind="chat", session="own", position=2)
    await door.write(
        [
            EpisodeCreate(episode_id="ep_own", instance="i", project="p", summary="I am called Yusuf.", source=source),
            EpisodeCreate(episode_id="ep_other", instance="i", project="p", summary="A lamp."),
        ]
    )
    await _session(sessions, "own", "My name is Yusuf\u2026")
    await _session(sessions, "later", "A talk")
    own = _turn(2, "My name is Yusuf,  remember?", "Yes, Yusuf.", episode_id="ep_own")
    await sessions.write("own", _turn(1, "Hello"))
    await sessions.write("own", own)
    recalled = (_recalled("ep_own", "I am called Yusuf."), _recalled("ep_other", "A lamp."))
    shows = _turn(1, "Who?", "You.", recalled=recalled, used=("ep_own",))
    await sessions.write("later", shows)
    await remover.forget("ep_own")
    assert "Yusuf" not in await _left(store)
    first, blank = (await sessions.turns("own", None, 5)).turns
    assert first.asked == "Hello"
    assert (blank.asked, blank.answered, blank.episode_id) == ("(forgotten)", "", "ep_own")
    assert (await sessions.get("own")).title == "(forgotten)"
    [later] = (await sessions.turns("later", None, 5)).turns
    assert [one.summary for one in later.recalled] == ["(forgotten)", "A lamp."]
    assert (later.asked, later.answered, later.used) == ("Who?", "You.", ("ep_own",))
    for session_id, turn in (("own", own.model_copy(update={"episode_id": None})), ("own", own), ("later", shows)):
        await sessions.write(session_id, turn)
        assert "Yusuf" not in await _left(store)
    await remover.forget("ep_own")  # by id, from the blocklist


async def test_forgetting_finds_the_turn_before_it_knows_its_episode(sessions: Sessions) -> None:
    """Where a gateway ended between keeping the episode and saying so, its source names the turn."""
    source = EpisodeSource(kind="chat", session="own", position=1)
    create = EpisodeCreate(episode_id="ep_own", instance="i", project="p", summary="I am Yusuf.", source=source)
    await sessions.door.write([create])
    await _session(sessions, "own")
    await sessions.write("own", _turn(1, "I am Yusuf."))
    await Remover(sessions.store, sessions.blocks, wipe=sessions.forget).forget("ep_own")
    assert "Yusuf" not in await _left(sessions.store)


async def test_forgetting_leaves_a_turn_that_became_something_else(sessions: Sessions) -> None:
    """An episode that only claims to come from a turn takes nothing out of it."""
    source = EpisodeSource(kind="chat", session="own", position=1)
    create = EpisodeCreate(episode_id="ep_false", instance="i", project="p", summary="A claim.", source=source)
    await sessions.door.write([create])
    await _session(sessions, "own")
    await sessions.write("own", _turn(1, "Something else", episode_id="ep_true"))
    await Remover(sessions.store, sessions.blocks, wipe=sessions.forget).forget("ep_false")
    assert [one.asked for one in (await sessions.turns("own", None, 5)).turns] == ["Something else"]
