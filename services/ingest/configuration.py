"""How transcripts are read, as it was last set: kept by memory, and held against what this service may read.

Until somebody sets it, it is what the environment says. Whoever needs it takes it anew: nothing waits for a restart.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from anamnesis.contracts.state import Setting
from anamnesis.contracts.summaries import JsonlConfig, JsonlConfigured
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError, BadRequest, Invalid, NotFound
from anamnesis.transcripts.files import default_roots

SETTING = "/api/settings/jsonl"
WITHIN = 15.0  # seconds for reading or writing it
BRIEF = 3.0  # seconds that a page waits for a memory that is away
FRESH = 2.0  # seconds for which what was read serves pages

OnChange = Callable[[JsonlConfig], None]


class Allowed:
    """Which directories may be read: those of ANAMNESIS_SOURCES, and roots that the environment itself names."""

    def __init__(self, sources: Sequence[str], roots: Sequence[str]) -> None:
        self.sources = tuple(os.path.realpath(os.path.expanduser(source)) for source in sources)
        self._roots = frozenset(os.path.realpath(root) for root in roots)

    def __call__(self, path: str) -> bool:
        """Whether a path lies within, wherever its links lead."""
        real = os.path.realpath(path)
        return real in self._roots or any(os.path.commonpath((real, source)) == source for source in self.sources)

    def check(self, path: str) -> None:
        """Raises `BadRequest` that says what may be read."""
        if not os.path.isabs(path):
            raise BadRequest(f"{path!r} is not an absolute path; write it whole, as /home/me/.claude/projects")
        if not self(path):
            may = ", ".join(self.sources) or "none"
            raise BadRequest(
                f"{path!r} lies outside of the directories that this service may read: {may}. "
                "They are set by ANAMNESIS_SOURCES in its environment"
            )


class Configuration:
    """The present one; `refresh` looks whether it has changed, and whoever listens is told."""

    def __init__(
        self, memory: ServiceClient, start: JsonlConfig, allowed: Allowed, environment: Mapping[str, str], home: Path
    ) -> None:
        """`start` is what the environment says; `environment` and `home` tell where Claude Code keeps transcripts."""
        self._memory = memory
        self._start = start
        self._allowed = allowed
        self._places = tuple(str(place) for place in default_roots(environment, home))
        self._listeners: list[OnChange] = []
        self._read = -FRESH
        self.current = start
        self.version = 0

    def listen(self, listener: OnChange) -> None:
        """Tell it what it is now, and whenever that changes."""
        self._listeners.append(listener)
        listener(self.current)

    @property
    def roots(self) -> tuple[Path, ...]:
        """Those that may be read, looked up now: a link may lead elsewhere since it was set."""
        return tuple(Path(root) for root in self.current.roots if self._allowed(root))

    @property
    def poll(self) -> float:
        """Seconds between two looks; 0 = only when somebody asks, also where there is nothing to look at."""
        return self.current.poll_seconds if self.current.roots else 0.0

    async def refresh(self, within: float = WITHIN) -> JsonlConfig:
        """What memory keeps now. Raises what the client raises, and `Invalid` where nobody can make sense of it."""
        try:
            setting = await self._memory.get(SETTING, Setting, deadline=within)
        except NotFound:
            self._take(self._start, 0)
            return self.current
        try:
            config = JsonlConfig.model_validate(setting.value)
        except ValidationError:
            raise Invalid("the setting 'jsonl' does not fit; set it anew at PUT /api/jsonl/config") from None
        self._take(config, setting.version)
        return self.current

    async def interval(self) -> float:
        """`poll`, as it is now."""
        await self.for_page()
        return self.poll

    async def for_page(self) -> JsonlConfig:
        """What it is, or was when memory was last reached; never raises."""
        if time.monotonic() - self._read >= FRESH:
            try:
                await self.refresh(BRIEF)
            except AnamnesisError:
                return self.current
        return self.current

    async def change(self, config: JsonlConfig, version: int | None) -> JsonlConfigured:
        """Set it. Raises `BadRequest` for a root that may not be read, `Conflict` where it has changed meanwhile."""
        for root in config.roots:
            await asyncio.to_thread(self._allowed.check, root)
        setting = await self._memory.request(
            "PUT", SETTING, Setting, body=config, query={"version": version}, deadline=WITHIN
        )
        self._take(config, setting.version)
        return await self.configured()

    async def configured(self) -> JsonlConfigured:
        """As it stands, and where there is more to read."""
        found = await asyncio.to_thread(self._found, self.current.roots)
        return JsonlConfigured(config=self.current, version=self.version, found=found)

    def _found(self, roots: Sequence[str]) -> tuple[str, ...]:
        read = [os.path.realpath(root) for root in roots]
        read += [os.path.join(root, "projects") for root in read]  # a configuration directory stands for its projects

        def is_read(place: str) -> bool:
            return any(os.path.commonpath((os.path.realpath(place), root)) == root for root in read)

        places = (place for place in self._places if os.path.isdir(place))
        return tuple(place for place in places if self._allowed(place) and not is_read(place))

    def _take(self, config: JsonlConfig, version: int) -> None:
        self._read = time.monotonic()
        changed = config != self.current
        self.current, self.version = config, version
        for listener in self._listeners if changed else ():
            listener(config)
