"""What is known of each crawled file, for people: counted by source, and in pages."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from anamnesis.contracts.crawler import CrawledFile, CrawledFiles
from anamnesis.kit.errors import AnamnesisError

State = Literal["read", "deleted", "error"]
FRESH = 10.0  # seconds for which a list is given again, unless a scan has ended since
BRIEF = 3.0  # seconds that a status waits for the list


class Files:
    """The list, made anew only when it may be another one: it can be long."""

    def __init__(self, load: Callable[[], Awaitable[Sequence[CrawledFile]]], scans: Callable[[], object]) -> None:
        """`load` gives all files by path; `scans` gives something that is another thing after each scan."""
        self._load = load
        self._scans = scans
        self._one = asyncio.Lock()
        self._files: Sequence[CrawledFile] = ()
        self._seen: object = object()
        self._until = 0.0

    async def page(self, source: str | None, state: State | None, skip: int, limit: int) -> CrawledFiles:
        """Raises what memory raises, where nothing is known yet."""
        return await asyncio.to_thread(_page, await self._all(), source, state, skip, limit)

    async def by_source(self) -> dict[str, int]:
        """How many files of each source there are; nothing where memory does not say in time."""
        try:
            async with asyncio.timeout(BRIEF):
                files = await self._all()
        except (TimeoutError, AnamnesisError):
            return {}
        return await asyncio.to_thread(lambda: Counter(file.source for file in files if file.state != "deleted"))

    async def _all(self) -> Sequence[CrawledFile]:
        async with self._one:
            seen = self._scans()
            if seen is not self._seen or time.monotonic() >= self._until:
                self._files = await self._load()
                self._seen, self._until = seen, time.monotonic() + FRESH
            return self._files


def _page(
    files: Sequence[CrawledFile], source: str | None, state: State | None, skip: int, limit: int
) -> CrawledFiles:
    meant = [
        file for file in files if (source is None or file.source == source) and (state is None or file.state == state)
    ]
    return CrawledFiles(files=tuple(meant[skip : skip + limit]), total=len(meant))
