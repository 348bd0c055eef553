"""The crawler's configuration, kept in memory's settings, where every instance and the dashboard find the same one.

Nothing is configured at first: an empty configuration is stored when nobody has stored one. Whoever writes says over
which version, and is told when somebody else has written meanwhile.
"""

import asyncio
import os
from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from anamnesis.contracts.base import Contract
from anamnesis.contracts.crawler import (
    CrawlerConfig,
    CrawlerConfigured,
    MachineRoot,
    Source,
    TagPatterns,
    TagPatternsConfigured,
)
from anamnesis.contracts.state import Setting
from anamnesis.crawl.tagging import check as check_patterns
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import Conflict, Invalid, NotFound
from services.ingest.crawler.checking import Reach, check

CONFIG = "crawler"
PATTERNS = "docx-tag-patterns"
WAIT = 5.0  # seconds for memory's answer

C = TypeVar("C", bound=Contract)


class Configuration:
    """Reads and writes it; `current` is what was read last."""

    def __init__(self, client: ServiceClient, reach: Reach) -> None:
        self._client = client
        self._reach = reach
        self.on_change: Callable[[], None] = lambda: None
        """Called after a write: another scan is due."""
        self._config = CrawlerConfig()
        self._patterns = TagPatterns()

    def current(self) -> tuple[CrawlerConfig, TagPatterns]:
        return self._config, self._patterns

    async def load(self) -> CrawlerConfig:
        """Read everything anew. Raises what memory raises, and `Invalid` where somebody stored what does not fit."""
        config = await self._read(CONFIG, CrawlerConfig)
        patterns = await self._read(PATTERNS, TagPatterns)
        # The same object as long as it says the same, so that a watcher sees at a glance whether it is another one.
        self._config = self._config if self._config == config[0] else config[0]
        self._patterns = patterns[0]
        return self._config

    async def get(self) -> CrawlerConfigured:
        config, version = await self._read(CONFIG, CrawlerConfig)
        try:
            warnings = await asyncio.to_thread(check, config, self._reach)
        except Invalid as error:  # the directories that may be read are others than when it was written
            warnings = (error.message,)
        return self._configured(config, version, warnings)

    async def put(self, config: CrawlerConfig, version: int | None) -> CrawlerConfigured:
        """Write the whole. Raises `Invalid`, and `Conflict` where there is another version by now."""
        warnings = await asyncio.to_thread(check, config, self._reach)
        written = await self._write(CONFIG, config, version)
        kept = _parsed(written, CrawlerConfig)
        self.on_change()
        return self._configured(kept, written.version, warnings)

    async def put_part(
        self,
        version: int | None,
        *,
        machine_roots: tuple[MachineRoot, ...] | None = None,
        sources: tuple[Source, ...] | None = None,
    ) -> CrawlerConfigured:
        """Write one part over what is there. Raises as `put` does; never over what was not read."""
        config, present = await self._read(CONFIG, CrawlerConfig)
        parts = {"machine_roots": machine_roots, "sources": sources}
        changed = config.model_copy(update={name: part for name, part in parts.items() if part is not None})
        return await self.put(changed, present if version is None else version)

    async def get_patterns(self) -> TagPatternsConfigured:
        patterns, version = await self._read(PATTERNS, TagPatterns)
        return TagPatternsConfigured(patterns=patterns.patterns, version=version)

    async def put_patterns(self, patterns: TagPatterns, version: int | None) -> TagPatternsConfigured:
        await asyncio.to_thread(check_patterns, patterns)
        written = await self._write(PATTERNS, patterns, version)
        self.on_change()
        return TagPatternsConfigured(patterns=_parsed(written, TagPatterns).patterns, version=written.version)

    async def _read(self, name: str, kind: type[C]) -> tuple[C, int]:
        """What is stored, with its version; what nobody has stored is, now."""
        try:
            setting = await self._setting(name)
        except NotFound:
            try:
                setting = await self._write(name, kind(), 0)
            except Conflict:  # another instance was faster
                setting = await self._setting(name)
        return _parsed(setting, kind), setting.version

    async def _setting(self, name: str) -> Setting:
        return await self._client.get(f"/api/settings/{name}", Setting, deadline=WAIT)

    async def _write(self, name: str, value: Contract, version: int | None) -> Setting:
        path = f"/api/settings/{name}"
        return await self._client.request("PUT", path, Setting, body=value, query={"version": version}, deadline=WAIT)

    def _configured(self, config: CrawlerConfig, version: int, warnings: tuple[str, ...]) -> CrawlerConfigured:
        allowed = tuple(os.fspath(one.expanduser()) for one in self._reach.allowed)
        return CrawlerConfigured(config=config, version=version, allowed=allowed, warnings=warnings)


def _parsed(setting: Setting, kind: type[C]) -> C:
    try:
        return kind.model_validate(setting.value)
    except ValidationError:
        what = "configuration" if setting.name == CONFIG else "list of patterns"
        raise Invalid(
            f"the {what} that is stored as the setting '{setting.name}' does not fit; write it anew as a whole"
        ) from None
