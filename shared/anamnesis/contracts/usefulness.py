"""Usefulness: which of the episodes that were put before a model were of use to it."""

from enum import StrEnum

from pydantic import Field, model_validator

from anamnesis.contracts.base import Contract, EpisodeId, Moment
from anamnesis.contracts.chat import SessionId

MAX_VERDICTS = 100


class Verdict(StrEnum):
    """What became of an episode that was put before a model."""

    USED = "used"
    """The answer shares its words (measured)."""
    UNUSED = "unused"
    HELPFUL = "helpful"
    """A person, or an assistant, said so."""
    UNHELPFUL = "unhelpful"


class EpisodeVerdict(Contract):
    episode_id: EpisodeId
    verdict: Verdict


class UsefulnessReport(Contract):
    """Verdicts over episodes, each counted once more."""

    verdicts: tuple[EpisodeVerdict, ...] = Field(min_length=1, max_length=MAX_VERDICTS)


class Feedback(Contract):
    """What a person or an assistant says of episodes, or of an answer of the chat."""

    helpful: bool
    episode_ids: tuple[EpisodeId, ...] = Field(default=(), max_length=MAX_VERDICTS)
    session: SessionId | None = None
    turn: int | None = Field(default=None, ge=1, le=10_000_000)
    """With `session` and without `episode_ids`: the episodes that this turn's answer made use of."""

    @model_validator(mode="after")
    def _names_something(self) -> "Feedback":
        if not self.episode_ids and (self.session is None or self.turn is None):
            raise ValueError("name episodes by episode_ids, or an answer by session and turn")
        return self


class EpisodeUsefulness(Contract):
    """The counts of one episode."""

    episode_id: str
    injected: int = 0
    used: int = 0
    helpful: int = 0
    unhelpful: int = 0
    last: Moment | None = None


class UsefulnessSummary(Contract):
    """Over the whole store. Injected precision is `used / injected`."""

    injected: int
    used: int
    helpful: int
    unhelpful: int
    never_used: tuple[EpisodeUsefulness, ...]
    """Those that were put forward most often and never of use, at most 50."""
