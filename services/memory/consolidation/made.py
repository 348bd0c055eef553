"""The episode that stands for several near-duplicates: extracted from them, without a model."""

import hashlib
from collections.abc import Mapping, Sequence

from anamnesis.contracts.base import now
from anamnesis.contracts.episodes import MAX_SUMMARY, MAX_TAGS, Episode, EpisodeSource, Trust
from services.memory.door import content_hash

KIND = "consolidation"
"""The kind of source that says so."""
_PREFIX = "ep_joined_"
_TRUSTS = tuple(Trust)


def is_made(episode: Episode) -> bool:
    """Whether a consolidation made it."""
    return names_made(episode.episode_id) and episode.source.kind == KIND and bool(episode.consolidated_from)


def names_made(episode_id: str) -> bool:
    """Whether an id is that of one that a consolidation made, as far as ids tell."""
    return episode_id.startswith(_PREFIX)


def id_of(members: Mapping[str, str]) -> str:
    """The id of the one that stands for these (id -> content hash): the same however often it is made."""
    told = "\n".join(f"{name} {content}" for name, content in sorted(members.items()))
    return f"{_PREFIX}{hashlib.sha256(told.encode()).hexdigest()[:24]}"


def made(members: Sequence[Episode], parts: Sequence[Episode]) -> Episode:
    """`members` (by time) are superseded by it; `parts` are those of them that no consolidation made, and what the
    others were made from.

    It is told by the longest of the parts (of equal ones the newest), which says all that the others say and the most
    beside; its summary ends with how often it happened, and when. Its trust is the lowest, its time the earliest, and
    its place in a session that of the first, where all are of one session.
    """
    by_time = sorted(parts, key=lambda one: (one.timestamp, one.episode_id))
    teller = max(reversed(by_time), key=lambda one: len(one.summary) + len(one.raw_exchange or ""))
    everyone = [*by_time, *members]
    line = _line(by_time)
    summary = f"{teller.summary[: MAX_SUMMARY - len(line) - 1].rstrip()}\n{line}"
    # A member behind what it was made from: flat, so that one look tells all that something came from.
    origins = [name for one in members for name in (*one.consolidated_from, one.episode_id)]
    first = by_time[0]
    session = _common([one.source.session for one in by_time])
    return Episode(
        episode_id=id_of({one.episode_id: one.content_hash for one in members}),
        timestamp=min(one.timestamp for one in everyone),
        ingested_at=now(),
        instance=teller.instance,
        project=teller.project,
        summary=summary,
        raw_exchange=teller.raw_exchange,
        tags=tuple(dict.fromkeys(tag for one in everyone for tag in one.tags))[:MAX_TAGS],
        source=EpisodeSource(
            kind=KIND,
            path=_common([one.source.path for one in by_time]),
            url=_common([one.source.url for one in by_time]),
            session=session,
            position=first.source.position if session is not None else None,
            uuid=teller.episode_id,
        ),
        trust=max((one.trust for one in everyone), key=_TRUSTS.index),
        content_hash=content_hash(summary, teller.raw_exchange),
        consolidated_from=tuple(dict.fromkeys(origins)),
    )


def _line(parts: Sequence[Episode]) -> str:
    """How often, from when to when, and whose words, where that differs; by time."""
    first, last = f"{parts[0].timestamp:%Y-%m-%d}", f"{parts[-1].timestamp:%Y-%m-%d}"
    when = f"on {first}" if first == last else f"from {first} to {last}"
    trusts = sorted({one.trust for one in parts}, key=_TRUSTS.index)
    words = f" Told by: {', '.join(trusts)}." if len(trusts) > 1 else ""
    return f"Happened {len(parts)} times {when}.{words}"


def _common(values: Sequence[str | None]) -> str | None:
    return values[0] if len(set(values)) == 1 else None
