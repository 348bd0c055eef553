"""What the gateway tells of the trainers that it knows."""

from typing import Literal

from anamnesis.contracts.base import Contract, JsonObject


class TrainerPlace(Contract):
    label: str
    url: str
    """Without a user or a password."""


class TrainerPlaces(Contract):
    """As they are configured."""

    trainers: tuple[TrainerPlace, ...]


class TrainerState(Contract):
    """A trainer as the gateway sees it now."""

    label: str
    url: str
    reachable: bool
    """Whether it answered just now, whatever it said."""
    error: str | None
    """What is wrong with it: just now, or else the last time that it was asked for something."""
    breaker: Literal["closed", "open", "half-open"]
    """Closed = it is asked; open = it is left alone after failures; half-open = one trial at a time is let in."""
    in_flight: int
    """Answers of it that are under way through this gateway."""
    failures: int
    """In a row."""
    wait: float
    """Seconds until it is tried again; 0 = now."""
    inference: JsonObject | None
    """What it says of itself (`GET /inference/status`); none = nothing in time."""


class TrainerStates(Contract):
    trainers: tuple[TrainerState, ...]
    reason: str | None
    """What to set where there is none."""
