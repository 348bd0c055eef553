"""How an answer is told in a dialect: what every dialect's writer does, so that one exchange serves them all."""

from collections.abc import Sequence
from typing import Protocol

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.errors import ErrorBody
from services.gateway.backends.base import Delta, Dialect


class Telling(Protocol):
    """One answer in one dialect; a new one for each answer."""

    @property
    def dialect(self) -> Dialect: ...

    def said(self, delta: Delta) -> Sequence[JsonObject]:
        """The events that tell a delta, those that come before all others included."""

    def frame(self, event: JsonObject) -> bytes:
        """An event as it is written."""

    def ending(self) -> bytes:
        """What marks the end of a whole stream, after its last event; empty where that event is the mark."""

    def ends(self, raw: bytes) -> bool:
        """Whether a frame that came from a backend is that mark."""

    def failure(self, status: int, error: ErrorBody) -> bytes:
        """An error after content has been sent; no mark of the end follows it."""

    def gather(self, event: JsonObject) -> None:
        """Take an event into the whole answer. Raises `ValueError` for what does not belong there."""

    def whole(self) -> JsonObject:
        """The answer as it is given without a stream."""
