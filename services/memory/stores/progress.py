"""How far the vectors of a model are complete, in order of id, so that a re-embedding need not start over.

Without it, asking for the next episodes without vectors would pass all those that have some, every time.
"""

import threading
from collections.abc import Sequence
from typing import NamedTuple

from services.memory.stores.index import Change, Put, Reset

_END = "\x7f"
"""Greater than every episode id."""


class Begun(NamedTuple):
    at_least: str
    """Episodes with lesser ids all have vectors of the model."""
    writes: int


class Progress:
    """A lower bound a model; writes lower it. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bounds: dict[str, str] = {}
        self._writes = 0

    def begin(self, model: str) -> Begun:
        """Call before the read that looks for what is missing."""
        with self._lock:
            return Begun(self._bounds.get(model, ""), self._writes)

    def reached(self, model: str, begun: Begun, first: str | None) -> None:
        """The read found this one first; none = nothing is missing. Ignored when somebody wrote meanwhile."""
        with self._lock:
            if self._writes == begun.writes:
                self._bounds[model] = _END if first is None else first

    def committed(self, changes: Sequence[Change]) -> None:
        """Take note of committed writes."""
        with self._lock:
            for change in changes:
                if isinstance(change, Put):
                    self._writes += 1
                    for model, bound in self._bounds.items():
                        if model not in change.vectors:
                            self._bounds[model] = min(bound, change.row.episode_id)
                elif isinstance(change, Reset):
                    self._writes += 1
                    self._bounds.pop(change.model, None)
