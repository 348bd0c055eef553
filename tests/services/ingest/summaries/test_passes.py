"""Summaries by a model over a real memory: marked, asked for, checked, written, and never in the way."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from anamnesis.contracts.episodes import (
    Changed,
    Episode,
    EpisodeBatch,
    EpisodeCreate,
    EpisodePatch,
    EpisodeSource,
    Trust,
)
from anamnesis.contracts.summaries import PENDING, Summarising
from anamnesis.destination import HttpDestination
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError, BadRequest, Unavailable
from services.ingest.lease import Lease
from services.ingest.summaries.cache import Cache
from services.ingest.summaries.marking import Marking
from services.ingest.summaries.passes import FAILED, Passes
from tests.services.ingest.memory_service import MemoryService, remembering

FAST = Summarising(backend="ollama", per_minute=600, together=4)
TOPICS = ("kettle", "harbour", "lantern", "orchard", "viaduct", "compass", "glacier", "monsoon", "pigment", "quarry")
Answer = Callable[[Sequence[str]], list[str | None]]


def raw_of(topic: str, more: str = "") -> str:
    return f"User: What about the {topic} module?\nAssistant: The {topic} module was repaired carefully. {more}" + (
        f" The {topic} settings were checked again." * 60
    )


def made(topic: str, more: str = "", **other: object) -> EpisodeCreate:
    one = EpisodeCreate(
        episode_id=f"ep_{topic}",
        instance="laptop",
        project="shop",
        summary=f"Asked: What about the {topic} module?\nAnswer: The {topic} module was repaired. {more}",
        raw_exchange=raw_of(topic, more),
        tags=("branch:main",),
        source=EpisodeSource(kind="claude-code", session="s1"),
        trust=Trust.ASSISTANT,
    )
    return one.model_copy(update=other)


def written(topic: str) -> str:
    return f"The {topic} module was repaired carefully and its settings were checked again."


def good(raws: Sequence[str]) -> list[str | None]:
    return [written(next(topic for topic in TOPICS if topic in raw)) for raw in raws]


@dataclass
class Scripted:
    """A writer that plays answers and errors, the last one for ever."""

    script: list[Answer | AnamnesisError] = field(default_factory=lambda: [good])
    asked: list[list[str]] = field(default_factory=list)
    meanwhile: Callable[[], object] | None = None

    async def write(self, exchanges: Sequence[str]) -> list[str | None]:
        self.asked.append(list(exchanges))
        if self.meanwhile is not None:
            await self.meanwhile()  # type: ignore[misc]
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, AnamnesisError):
            raise step
        return step(exchanges)


@dataclass
class House:
    memory: MemoryService
    client: ServiceClient
    by: Summarising = FAST
    writer: Scripted = field(default_factory=Scripted)

    def __post_init__(self) -> None:
        self.cache = Cache(self.client)
        self.passes = self.another("a")
        self.push_to = Marking(HttpDestination(self.client, "ingest:laptop"), self.cache, lambda: self.by)

    def another(self, holder: str) -> Passes:
        lease = Lease(self.client, "summaries", holder)
        return Passes(self.client, self.cache, lease, lambda: self.by, lambda _: self.writer, pause=0.01)

    async def push(self, *episodes: EpisodeCreate) -> list[str]:
        result = await self.push_to.push(EpisodeBatch(episodes=episodes, on_conflict="update"))
        return [one.status.value for one in result.results]

    async def episode(self, topic: str) -> Episode:
        return (await self.memory.store.get([f"ep_{topic}"]))[f"ep_{topic}"]

    @property
    def questions(self) -> int:
        return len(self.writer.asked)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with remembering(tmp_path) as memory, memory.client() as client:
        one = House(memory, client)
        yield one
        await one.passes.close()


async def test_nothing_waits_for_a_model(house: House) -> None:
    """The extractive summary is there at once, marked; a pass replaces it and takes the mark away."""
    house.writer.script = [Unavailable("ollama is away"), good]
    await house.push(*(made(topic) for topic in TOPICS[:6]))
    before = await house.episode("kettle")
    assert before.summary.startswith("Asked: ")
    assert before.tags == ("branch:main", PENDING)
    assert (await house.passes.status()).pending == 6
    told = await house.passes.night()
    assert told == "6 by ollama, 0 known before, 0 failed"
    for topic in TOPICS[:6]:
        after = await house.episode(topic)
        assert (after.summary, after.tags, after.trust) == (written(topic), ("branch:main",), Trust.ASSISTANT)
        assert after.raw_exchange == raw_of(topic)
    assert [len(raws) for raws in house.writer.asked] == [4, 4, 2]  # one of them twice
    status = await house.passes.status()
    assert (status.pending, status.written, status.running, status.last_error) == (0, 6, False, None)


async def test_reading_anew_asks_nothing_and_changes_nothing(house: House) -> None:
    """What is pushed again comes with the summary that it has: a duplicate, not embedded again, not asked about."""
    await house.push(made("kettle"))
    await house.passes.night()
    embedded = house.memory.door.embedder.texts  # type: ignore[attr-defined]
    assert await house.push(made("kettle")) == ["duplicate"]
    assert house.memory.door.embedder.texts == embedded  # type: ignore[attr-defined]
    assert (await house.episode("kettle")).tags == ("branch:main",)
    # Another copy, and one that somebody pushed without asking the cache, are served from it.
    await house.push(made("kettle", episode_id="ep_harbour", project="other"))
    assert (await house.episode("harbour")).summary == written("kettle")
    await house.memory.door.write([made("kettle", tags=(PENDING,))], "update")
    assert (await house.episode("kettle")).summary.startswith("Asked: ")
    assert await house.passes.night() == "0 by ollama, 1 known before, 0 failed"
    assert (await house.episode("kettle")).summary == written("kettle")
    assert house.questions == 1


@pytest.mark.parametrize("at", ["asked", "written"])
async def test_an_exchange_that_grows_meanwhile_keeps_its_text(house: House, at: str) -> None:
    """A summary of what it was is never written over what it has become; that one is asked about anew."""
    await house.push(made("kettle"))
    grown = made("kettle", "Then the orchard was added.")

    async def grow() -> None:
        house.writer.meanwhile = None
        await house.push(grown)

    if at == "asked":
        house.writer.meanwhile = grow
    else:
        real = house.client.get

        async def get(path: str, *rest: object, **more: object) -> object:
            found: object = await real(path, *rest, **more)  # type: ignore[arg-type]
            if path == "/api/episodes/ep_kettle" and house.questions == 1:
                await house.push(grown)
            return found

        house.client.get = get  # type: ignore[method-assign,assignment]
    await house.passes.night()
    present = await house.episode("kettle")
    assert (present.raw_exchange, present.summary, PENDING in present.tags) == (grown.raw_exchange, grown.summary, True)
    await house.passes.night()
    present = await house.episode("kettle")
    assert (present.raw_exchange, present.tags) == (grown.raw_exchange, ("branch:main",))
    assert house.questions == 2


async def test_what_does_not_profit_is_not_marked(house: House) -> None:
    """Short exchanges, a user's own words, what is no transcript; and nothing at all without a model."""
    short = made("kettle", raw_exchange="User: What about the kettle?\nAssistant: Repaired.")
    own = made("harbour", trust=Trust.USER)
    file = made("lantern", source=EpisodeSource(kind="file"))
    await house.push(short, own, file)
    house.by = Summarising()
    await house.push(made("orchard"))
    assert (await house.passes.status()).pending == 0
    assert await house.passes.night() == "no model is asked"
    with pytest.raises(BadRequest, match=r"summaries\.backend"):
        house.passes.begin()
    assert house.questions == 0


async def test_what_is_no_summary_is_not_written(house: House) -> None:
    """A refusal leaves the extractive one; after some passes the model is not asked about it again."""
    house.writer.script = [lambda raws: ["I'm sorry, I cannot do that."] * len(raws)]
    await house.push(made("kettle"))
    for _ in range(5):
        await house.passes.night()
    present = await house.episode("kettle")
    assert present.summary.startswith("Asked: ")
    assert present.tags == ("branch:main", FAILED)
    assert house.questions == 3
    await house.push(made("kettle"))
    await house.push(made("kettle", project="other", episode_id="ep_harbour"))
    assert (await house.passes.status()).pending == 0


async def test_a_backend_that_is_away_costs_its_tries(house: House) -> None:
    """After the tries of one request the pass ends; nothing is held against the exchanges, and the rest waits."""
    house.writer.script = [Unavailable("ollama is away")]
    await house.push(*(made(topic) for topic in TOPICS))
    for _ in range(4):
        told = await house.passes.night()
    assert "the rest waits: ollama is away" in told
    assert house.questions == 4 * FAST.tries
    status = await house.passes.status()
    assert (status.pending, status.failed, status.last_error) == (10, 0, "ollama is away")
    house.writer.script = [good]
    await house.passes.night()
    assert (await house.passes.status()).pending == 0


async def test_a_model_that_takes_nothing_is_not_the_exchanges_fault(house: House) -> None:
    """Where every request is refused the pass ends soon, and no exchange is given up."""
    house.writer.script = [BadRequest("there is no such model")]
    await house.push(*(made(topic) for topic in TOPICS))
    for _ in range(5):
        assert "there is no such model" in await house.passes.night()
    assert house.questions <= 5 * 4
    assert (await house.passes.status()).pending == 10


async def test_one_that_is_refused_keeps_no_other_from_it(house: House) -> None:
    """A request that is refused is asked in parts; only the one at fault stays as it is."""

    def picky(raws: Sequence[str]) -> list[str | None]:
        if any("harbour" in raw for raw in raws):
            raise BadRequest("too long for this model")
        return good(raws)

    house.writer.script = [picky]
    await house.push(*(made(topic) for topic in ("kettle", "harbour", "lantern")))
    for _ in range(4):
        await house.passes.night()
    assert (await house.episode("kettle")).summary == written("kettle")
    assert (await house.episode("lantern")).summary == written("lantern")
    assert (await house.episode("harbour")).tags == ("branch:main", FAILED)


async def test_a_night_asks_about_so_many(house: House) -> None:
    """`per_night` bounds what is asked about until the next night, passes in between included."""
    house.by = FAST.model_copy(update={"per_night": 4, "together": 3})
    await house.push(*(made(topic) for topic in TOPICS))
    await house.passes.night()
    assert sum(map(len, house.writer.asked)) == 4
    await house.passes._pass()
    assert sum(map(len, house.writer.asked)) == 4
    await house.passes.night()
    assert sum(map(len, house.writer.asked)) == 8


async def test_a_pause_between_requests(house: House) -> None:
    """`per_minute` keeps requests apart."""
    house.by = FAST.model_copy(update={"per_minute": 60.0, "together": 1})
    await house.push(*(made(topic) for topic in TOPICS[:3]))
    began = asyncio.get_running_loop().time()
    await house.passes.night()
    assert asyncio.get_running_loop().time() - began >= 1.9
    assert house.questions == 3


async def test_two_instances_do_not_ask_twice(house: House) -> None:
    """While one goes through what waits, another leaves it alone."""
    await house.push(*(made(topic) for topic in TOPICS))
    other = house.another("b")
    told = await asyncio.gather(house.passes.night(), other.night())
    assert sorted(told)[1] == "another instance is at it" or house.questions == 3
    assert sum(map(len, house.writer.asked)) == 10


async def test_what_a_person_wrote_stays(house: House) -> None:
    """A summary that was changed by hand, and what has been replaced or deleted, is not asked about."""
    await house.push(*(made(topic) for topic in TOPICS[:4]))
    await house.memory.door.patch("ep_kettle", EpisodePatch(summary="My own words about the kettle."))
    await house.memory.store.supersede(["ep_harbour"], "ep_kettle")

    async def change() -> None:
        house.writer.meanwhile = None
        await house.client.request("DELETE", "/api/episodes/ep_lantern", Changed)
        await house.memory.door.patch("ep_orchard", EpisodePatch(tags=("mine", PENDING)))

    house.writer.meanwhile = change
    await house.passes.night()
    assert (await house.episode("kettle")).summary == "My own words about the kettle."
    assert (await house.episode("harbour")).summary.startswith("Asked: ")
    assert (await house.episode("orchard")).tags == ("mine",)
    assert sum(map(len, house.writer.asked)) == 2
    assert (await house.passes.status()).pending == 0


async def test_a_twin_is_let_be(house: House) -> None:
    """Where another episode says the same already, the extractive summary stays and nothing waits."""
    await house.push(made("kettle"))
    await house.memory.door.write([made("kettle", episode_id="ep_twin", summary=written("kettle"))])
    await house.passes.night()
    present = await house.episode("kettle")
    assert present.summary.startswith("Asked: ")
    assert PENDING not in present.tags


async def test_a_crash_costs_no_second_question(house: House) -> None:
    """What was written by a model and not yet put into its episode is known to the next pass."""
    await house.push(made("kettle"))
    real = house.passes._apply

    async def dies(episode: Episode, summary: str) -> int:
        raise asyncio.CancelledError

    house.passes._apply = dies  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await house.passes.night()
    house.passes._apply = real  # type: ignore[method-assign]
    assert await house.passes.night() == "0 by ollama, 1 known before, 0 failed"
    assert house.questions == 1
