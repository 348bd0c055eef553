"""What a scan came to, while it runs and afterwards: the counts of a `CrawlRun`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

EXAMPLES = 5
"""Paths that are kept for each reason."""


@dataclass
class CrawlCounts:
    files: int = 0
    """Files that are meant; of a run for some paths those among them."""
    files_changed: int = 0
    """New ones and changed ones."""
    files_done: int = 0
    """Changed ones that have been read."""
    renamed: int = 0
    deleted: int = 0
    """Files that are gone."""
    created: int = 0
    """Episodes."""
    updated: int = 0
    """Episodes whose text was made anew."""
    superseded: int = 0
    duplicate: int = 0
    """Parts that memory held already."""
    blocked: int = 0
    """Parts that were deleted or forgotten on purpose and did not come back."""
    refused: int = 0
    """Parts that memory would not take."""
    redactions: "Counter[str]" = field(default_factory=Counter)
    left_out: "Counter[str]" = field(default_factory=Counter)
    errors: "Counter[str]" = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    """By source: why it could not be looked at as a whole."""
    under_way: int = 0
    """Episodes that were sent and not acknowledged when the run was stopped."""
    stopping: bool = False
    """Whether it is waiting for those."""

    def fail(self, reason: str, path: str) -> None:
        self.errors[reason] += 1
        known = self.examples.setdefault(reason, [])
        if len(known) < EXAMPLES:
            known.append(path)

    def add_scan(self, left_out: "Counter[str]", errors: "Counter[str]", examples: Mapping[str, Sequence[str]]) -> None:
        """What could not be looked at, or was not to be."""
        self.left_out += left_out
        self.errors += errors
        for reason, paths in examples.items():
            self.examples[reason] = [*self.examples.get(reason, ()), *paths][:EXAMPLES]
