"""What a run has seen and done so far, counted."""

import time
from collections import Counter
from dataclasses import dataclass, field

EXAMPLES = 3
"""Files that are named for each reason why some could not be read."""
REFUSALS = 20
"""Refused episodes that are named."""


@dataclass
class Progress:
    """Counts of one run. They only grow while it runs, but for the totals, which are known once it has looked."""

    files: int = 0
    """Transcripts that were found."""
    files_changed: int = 0
    """Those with something new."""
    files_done: int = 0
    """Changed ones that were read to their end, or given up."""
    bytes: int = 0
    """Bytes to be read, as the directory shows them."""
    bytes_done: int = 0
    created: int = 0
    updated: int = 0
    duplicate: int = 0
    blocked: int = 0
    refused: int = 0
    """Episodes that the memory service would not take."""
    refusals: dict[str, str] = field(default_factory=dict)
    """The first of them, each with the code of its refusal."""
    redactions: Counter[str] = field(default_factory=Counter)
    """Secrets taken out before anything was sent, by kind."""
    decisions: Counter[str] = field(default_factory=Counter)
    """Exchanges that were judged, by reason; `kept` were sent."""
    unreadable: int = 0
    """Lines that were no records."""
    replayed: int = 0
    """Records that stood in their file more than once and counted once."""
    errors: Counter[str] = field(default_factory=Counter)
    """Files that could not be read, by reason."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """The first of them, by reason."""
    removed: int = 0
    """Marks of files that are gone."""
    under_way: int = 0
    """Episodes that were sent and are not answered yet."""
    stopping: bool = False
    """Whether the run was told to stop and waits for those."""
    started: float = field(default_factory=time.monotonic)

    def fail(self, reason: str, path: str) -> None:
        """Count a file that could not be read."""
        self.errors[reason] += 1
        named = self.examples.setdefault(reason, [])
        if len(named) < EXAMPLES:
            named.append(path)

    @property
    def episodes(self) -> int:
        """Episodes that were sent and answered."""
        return self.created + self.updated + self.duplicate + self.blocked + self.refused

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def eta(self) -> float | None:
        """Seconds that are left at the present rate; none while nobody can tell."""
        if not self.bytes_done or self.bytes_done >= self.bytes:
            return 0.0 if self.bytes and self.bytes_done >= self.bytes else None
        return self.seconds * (self.bytes - self.bytes_done) / self.bytes_done
