"""Where episodes and marks go: what `sync` needs of it, and the memory service over HTTP."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol, TypeVar

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.episodes import BatchResult, Changed, EpisodeBatch
from anamnesis.contracts.state import AllDocuments, Documents, Keys
from anamnesis.kit.client import ServiceClient

PUSH = 600.0  # seconds for one batch, tries included; embedding a full one on a slow machine takes minutes
STATE = 30.0  # seconds for reading or writing marks
_MARK_CHARACTERS = 4 << 20
_MARKS = 500
"""Marks of one request: at most so many, and about so many characters."""

_NO_NAME = re.compile(r"[^A-Za-z0-9._:@-]")

T = TypeVar("T")


class Destination(Protocol):
    """Keeps episodes and marks. A call that returns has made its change durable; all may be repeated."""

    async def load_offsets(self) -> Mapping[str, JsonObject]:
        """Every mark, by key."""

    async def save_offsets(self, marks: Mapping[str, JsonObject]) -> None:
        """Write marks; others stay."""

    async def remove_offsets(self, keys: Sequence[str]) -> None:
        """Remove marks; those that do not exist count as removed."""

    async def push(self, batch: EpisodeBatch) -> BatchResult:
        """Write episodes; one result each, in order."""


class HttpDestination:
    """The memory service, spoken to directly or through the gateway. `namespace` keeps the marks of one reader."""

    def __init__(self, client: ServiceClient, namespace: str) -> None:
        self._client = client
        self._marks = f"/api/state/offsets/{namespace}"

    async def load_offsets(self) -> Mapping[str, JsonObject]:
        return (await self._client.get(self._marks, AllDocuments, deadline=STATE)).documents

    async def save_offsets(self, marks: Mapping[str, JsonObject]) -> None:
        for part in _parts(marks):
            body = Documents(documents=part)
            await self._client.request("PUT", self._marks, Changed, body=body, deadline=STATE, repeatable=True)

    async def remove_offsets(self, keys: Sequence[str]) -> None:
        for some in _some(keys, _MARKS):
            body = Keys(keys=tuple(some))
            path = f"{self._marks}/remove"
            await self._client.request("POST", path, Changed, body=body, deadline=STATE, repeatable=True)

    async def push(self, batch: EpisodeBatch) -> BatchResult:
        # Episodes carry their ids, so sending a batch again changes nothing.
        return await self._client.request(
            "POST", "/api/episodes/batch", BatchResult, body=batch, deadline=PUSH, repeatable=True
        )


def _parts(marks: Mapping[str, JsonObject]) -> Iterator[dict[str, JsonObject]]:
    part: dict[str, JsonObject] = {}
    size = 0
    for key, mark in marks.items():
        length = len(str(mark.get("weights", ""))) + len(str(mark.get("seen", ""))) + 1024
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
