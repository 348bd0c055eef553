"""Where episodes and marks go: what readers of transcripts and files need of it, and the memory service over HTTP."""

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal, Protocol, TypeVar

from pydantic import BaseModel

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.episodes import (
    MAX_BATCH,
    Amended,
    Amendment,
    AmendRequest,
    AmendResult,
    BatchResult,
    Changed,
    EpisodeBatch,
    EpisodeCreate,
    SupersedeRequest,
    UnsupersedeRequest,
)
from anamnesis.contracts.state import AllDocuments, Documents, Keys
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError, BadRequest, DeadlineExceeded, Invalid, TooLarge, Unavailable

PUSH = 600.0  # seconds for the answer to one batch; embedding a full one on a slow machine takes minutes
STATE = 30.0  # seconds for the answer to reading or writing marks
AWAY = 20.0  # seconds that a service may be unreachable before the run gives up
_PAUSE = 0.25  # seconds before the first new try; twice as many before each further one
_MAX_PAUSE = 2.0
_MARK_CHARACTERS = 4 << 20
_MARKS = 500
"""Marks of one request: at most so many, and about so many characters."""

_NO_NAME = re.compile(r"[^A-Za-z0-9._:@-]")

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class Destination(Protocol):
    """Keeps episodes and marks. A call that returns has made its change durable; all may be repeated."""

    @property
    def away(self) -> bool:
        """Whether it could not be reached when it was last tried."""

    async def load_offsets(self) -> Mapping[str, JsonObject]:
        """Every mark, by key."""

    async def save_offsets(self, marks: Mapping[str, JsonObject]) -> None:
        """Write marks; others stay."""

    async def remove_offsets(self, keys: Sequence[str]) -> None:
        """Remove marks; those that do not exist count as removed."""

    async def push(self, batch: EpisodeBatch) -> BatchResult:
        """Write episodes; one result each, in order."""


class Keeper(Destination, Protocol):
    """A destination for what changes at its origin: files that are edited, renamed and deleted."""

    async def supersede(self, episode_ids: Sequence[str], by: str) -> None:
        """Mark episodes as replaced. Raises `NotFound` where one of them is gone, `Conflict` in a circle."""

    async def unsupersede(self, episode_ids: Sequence[str]) -> None:
        """Make episodes current again; those that are, or are gone, stay as they are."""

    async def amend(self, amendments: Sequence[Amendment]) -> list[Amended]:
        """Change what is known about episodes, not their text; one answer each, in order."""


class HttpDestination:
    """The memory service, spoken to directly or through the gateway. `namespace` keeps the marks of one reader."""

    def __init__(
        self,
        client: ServiceClient,
        namespace: str,
        on_wait: Callable[[], None] = lambda: None,
        patience: float = AWAY,
    ) -> None:
        """`on_wait` is called whenever the service is away; after `patience` seconds of that a call gives up."""
        self._client = client
        self._marks = f"/api/state/offsets/{namespace}"
        self._on_wait = on_wait
        self._patience = patience
        self._away = False

    @property
    def away(self) -> bool:
        return self._away

    async def load_offsets(self) -> Mapping[str, JsonObject]:
        return (await self._ask("GET", self._marks, AllDocuments, None, STATE)).documents

    async def save_offsets(self, marks: Mapping[str, JsonObject]) -> None:
        for part in _parts(marks):
            await self._ask("PUT", self._marks, Changed, Documents(documents=part), STATE)

    async def remove_offsets(self, keys: Sequence[str]) -> None:
        for some in _some(keys, _MARKS):
            await self._ask("POST", f"{self._marks}/remove", Changed, Keys(keys=tuple(some)), STATE)

    async def push(self, batch: EpisodeBatch) -> BatchResult:
        # Episodes carry their ids, so sending a batch again changes nothing.
        return await self._ask("POST", "/api/episodes/batch", BatchResult, batch, PUSH)

    async def supersede(self, episode_ids: Sequence[str], by: str) -> None:
        for some in _some(episode_ids, MAX_BATCH):
            body = SupersedeRequest(episode_ids=tuple(some), superseded_by=by)
            await self._ask("POST", "/api/episodes/supersede", Changed, body, STATE)

    async def unsupersede(self, episode_ids: Sequence[str]) -> None:
        for some in _some(episode_ids, MAX_BATCH):
            body = UnsupersedeRequest(episode_ids=tuple(some))
            await self._ask("POST", "/api/episodes/unsupersede", Changed, body, STATE)

    async def amend(self, amendments: Sequence[Amendment]) -> list[Amended]:
        changed: list[Amended] = []
        for some in _some(amendments, MAX_BATCH):
            body = AmendRequest(amendments=tuple(some))
            changed += (await self._ask("POST", "/api/episodes/amend", AmendResult, body, STATE)).results
        return changed

    async def _ask(self, method: str, path: str, answer: type[M], body: BaseModel | None, deadline: float) -> M:
        """An answer may take as long as `deadline`; nobody who could answer is put up with for a shorter time."""
        since: float | None = None
        pause = _PAUSE
        while True:
            try:
                given = await self._client.request(method, path, answer, body=body, deadline=deadline)
            except Unavailable:
                self._away = True
                now = time.monotonic()
                since = now if since is None else since
                if now + pause - since > self._patience:
                    raise
                self._on_wait()
                await asyncio.sleep(pause)
                pause = min(pause * 2, _MAX_PAUSE)
            except AnamnesisError:
                self._away = False
                raise
            else:
                self._away = False
                return given


Refusals = dict[str, AnamnesisError]
"""Ids of episodes that memory would not take, and why."""


async def push_what_fits(
    destination: Destination, episodes: Sequence[EpisodeCreate], on_conflict: Literal["skip", "update"]
) -> tuple[BatchResult, Refusals]:
    """Send a batch; what the service will not take is found by halving."""
    if not episodes:
        return BatchResult(results=()), {}
    try:
        return await destination.push(EpisodeBatch(episodes=tuple(episodes), on_conflict=on_conflict)), {}
    except DeadlineExceeded:  # a large model on a small machine: less at a time
        if len(episodes) == 1:
            raise
    except (Invalid, TooLarge, BadRequest) as error:
        if len(episodes) == 1:
            return BatchResult(results=()), {episodes[0].episode_id or "": error}
    half = len(episodes) // 2
    first, refused = await push_what_fits(destination, episodes[:half], on_conflict)
    second, also = await push_what_fits(destination, episodes[half:], on_conflict)
    return BatchResult(results=first.results + second.results), refused | also


def _parts(marks: Mapping[str, JsonObject]) -> Iterator[dict[str, JsonObject]]:
    part: dict[str, JsonObject] = {}
    size = 0
    for key, mark in marks.items():
        length = sum(len(value if isinstance(value, str) else str(value)) for value in mark.values()) + 1024
        if part and (len(part) >= _MARKS or size + length > _MARK_CHARACTERS):
            yield part
            part, size = {}, 0
        part[key] = mark
        size += length
    if part:
        yield part


def _some(items: Iterable[T], count: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while some := list(islice(iterator, count)):
        yield some


def namespace(reader: str, instance: str) -> str:
    """Where a reader keeps its marks: the service and the command of one machine do not share them."""
    return _NO_NAME.sub("-", f"{reader}:{instance}")[:200]
