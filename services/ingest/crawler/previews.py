"""What a source would read, before it is configured: one look at a time, away from the event loop, within seconds."""

import asyncio
from collections.abc import Awaitable, Callable

from anamnesis.contracts.crawler import CrawlerConfig, Preview, PreviewRequest
from anamnesis.crawl.preview import SECONDS, preview
from anamnesis.kit.errors import Busy, DeadlineExceeded
from services.ingest.crawler.checking import Reach, check

GRACE = 5.0  # seconds more than the look itself may take


class Previews:
    """Looks for those who ask. A file system that hangs keeps others waiting for this, and for nothing else."""

    def __init__(
        self, load: Callable[[], Awaitable[CrawlerConfig]], reach: Reach, seconds: float = SECONDS, grace: float = GRACE
    ) -> None:
        """`load` gives the present configuration."""
        self._load = load
        self._reach = reach
        self._seconds = seconds
        self._grace = grace
        self._looking: asyncio.Future[Preview] | None = None

    async def get(self, request: PreviewRequest) -> Preview:
        """Raises `Invalid` where the source cannot be meant, and `Busy` while another look is under way."""
        config = await self._load()
        if self._looking is not None and not self._looking.done():
            raise Busy("another preview is under way; try again in a moment", retry_after=self._seconds)
        self._looking = asyncio.ensure_future(asyncio.to_thread(self._look, request, config))
        self._looking.add_done_callback(_seen)
        try:
            async with asyncio.timeout(self._seconds + self._grace):
                return await asyncio.shield(self._looking)
        except TimeoutError:
            raise DeadlineExceeded("the file system did not answer in time; is a mount away?") from None

    def _look(self, request: PreviewRequest, config: CrawlerConfig) -> Preview:
        roots = config.machine_roots if request.machine_roots is None else request.machine_roots
        source = request.source.model_copy(update={"enabled": True})
        check(config.model_copy(update={"machine_roots": roots, "sources": (source,)}), self._reach)
        allowed, instance, never = self._reach
        return preview(request, config, allowed, instance, never=never, seconds=self._seconds)


def _seen(looking: "asyncio.Future[Preview]") -> None:
    """Whoever asked may be gone; what went wrong is then nobody's."""
    if not looking.cancelled():
        looking.exception()
