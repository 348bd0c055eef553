"""What becomes of episodes when files change: those that come back, and those that no file holds any more.

The tags `on:<machine>` of an episode say on which machines its content lies; every machine adds and removes its own. So
an episode that one machine has let go of stays as it is while another still holds it. Two machines may act at once:
who comes adds the tag before it makes an episode current, and who goes looks again after it has put one aside, so one
of the two sees the other.

Whoever calls this has written down before what it is about (`Mark.past`): everything may be done again.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from anamnesis.contracts.episodes import MAX_PLACE, Amended, Amendment
from anamnesis.crawl.counts import CrawlCounts
from anamnesis.crawl.episodes import DELETED, ON, on
from anamnesis.crawl.marks import Held, Mark, Marks
from anamnesis.crawl.scan import printable
from anamnesis.destination import Keeper
from anamnesis.kit.errors import Conflict, Invalid, NotFound
from anamnesis.transcripts.episodes import storable

AT_ONCE = 4
"""Requests at a time, where there is one for each replaced part."""
NEAREST = 3
"""Parts that are tried to take the place of one that is gone."""
T = TypeVar("T")


class Arrival(NamedTuple):
    """A part of a file that an episode holds already."""

    part: Held
    path: str
    instance: str
    tags: tuple[str, ...]
    """Those that are added; empty where it has them and only its lines have moved."""


async def welcome(keeper: Keeper, arrivals: Sequence[Arrival]) -> None:
    """Make episodes current again that files hold, and say where these are."""
    coming = [one for one in arrivals if one.tags]
    moved = [one for one in arrivals if not one.tags]
    tagged = [Amendment(episode_id=one.part.episode_id, add_tags=one.tags, remove_tags=(DELETED,)) for one in coming]
    answers = await _amend(keeper, tagged)
    await keeper.unsupersede([one.part.episode_id for one in coming])
    # Where another machine has the same content it has said where that lies.
    moved += [one for one, answer in zip(coming, answers, strict=True) if _machines(answer) == {on(one.instance)}]
    await _amend(keeper, [_placed(one.part, one.path) for one in moved])


async def let_go(keeper: Keeper, marks: Marks, counts: CrawlCounts) -> None:
    """Put aside what no file holds any more, as the marks with a past say, and clear their pasts."""
    unsettled = marks.unsettled()
    if not unsettled:
        return
    leaving: list[_Leaving] = []
    amendments: list[Amendment] = []
    for mark in unsettled:
        for part in dict.fromkeys(mark.leaving):
            holders = marks.holding(part.episode_id)
            if not any(one.instance == mark.instance for one in holders):
                leaving.append(_Leaving(mark, part))
            elif all(one.path != mark.path for one in holders):
                amendments.append(_placed(_part(holders[0], part.episode_id), holders[0].path))
    await _amend(keeper, amendments)
    machines = dict.fromkeys((one.part.episode_id, one.mark.instance) for one in leaving)
    going = await _amend(keeper, [Amendment(episode_id=name, remove_tags=(on(at),)) for name, at in machines])
    last = {answer.episode_id: answer for answer in going}
    # Of several files that held it, one that still says something has the counterpart.
    leaving.sort(key=lambda one: not one.mark.held)
    alone = list({one.part.episode_id: one for one in reversed(leaving)}.values())
    alone = [one for one in alone if last[one.part.episode_id].found and not _machines(last[one.part.episode_id])]
    replaced = await _at_once([_replace(keeper, one) for one in alone])
    counts.superseded += sum(replaced)
    dead = [one.part.episode_id for one, done in zip(alone, replaced, strict=True) if not done]
    aside = [one.part.episode_id for one, done in zip(alone, replaced, strict=True) if done]
    # The second look: a machine may have come while we were going.
    back = _held(await _amend(keeper, [Amendment(episode_id=one) for one in aside]))
    if back:
        await keeper.unsupersede(back)
    back = _held(await _amend(keeper, [Amendment(episode_id=one, add_tags=(DELETED,)) for one in dead]))
    await _amend(keeper, [Amendment(episode_id=one, remove_tags=(DELETED,)) for one in back])
    for mark in unsettled:
        if mark.identity or mark.reason:
            marks.put(replace(mark, past=""))
        else:  # of a file that is gone, or was never read
            marks.remove(mark.path)
    await save_marks(keeper, marks)


async def save_marks(keeper: Keeper, marks: Marks) -> None:
    """Write what has changed."""
    written, empty = marks.changes()
    if written:
        await keeper.save_offsets(written)
    if empty:
        await keeper.remove_offsets(empty)


@dataclass(frozen=True)
class _Leaving:
    mark: Mark
    part: Held


async def _replace(keeper: Keeper, one: _Leaving) -> bool:
    """Let the counterpart in the same file take an episode's place; false where there is none."""
    for by in _counterparts(one):
        try:
            await keeper.supersede([one.part.episode_id], by)
        except NotFound:
            continue  # somebody has deleted it
        except Conflict:
            # Somebody has put that one aside for the one that goes now; the file says otherwise.
            await keeper.unsupersede([by])
            try:
                await keeper.supersede([one.part.episode_id], by)
            except (Conflict, NotFound):
                continue
        return True
    return False


def _counterparts(one: _Leaving) -> list[str]:
    """What stands in the file now in place of a part: of the same section, else the nearest."""
    parts = [part for part in one.mark.parts if part.episode_id and part.episode_id != one.part.episode_id]
    parts.sort(key=lambda part: (part.section != one.part.section, abs(part.line - one.part.line)))
    return list(dict.fromkeys(part.episode_id for part in parts))[:NEAREST]


def _placed(part: Held, path: str) -> Amendment:
    return Amendment(
        episode_id=part.episode_id,
        path=storable(printable(path))[:MAX_PLACE],
        line=part.line,
        last_line=max(part.line, part.last_line),
    )


def _part(mark: Mark, episode_id: str) -> Held:
    return next(one for one in mark.parts if one.episode_id == episode_id)


def _machines(answer: Amended) -> set[str]:
    return {tag for tag in answer.tags if tag.startswith(ON)}


def _held(answers: Iterable[Amended]) -> list[str]:
    return [answer.episode_id for answer in answers if _machines(answer)]


async def _amend(keeper: Keeper, amendments: Sequence[Amendment]) -> list[Amended]:
    """One answer each; an episode with no room for more tags gets those that have to be."""
    if not amendments:
        return []
    try:
        return await keeper.amend(amendments)
    except Invalid:
        if len(amendments) > 1:
            half = len(amendments) // 2
            return await _amend(keeper, amendments[:half]) + await _amend(keeper, amendments[half:])
        (one,) = amendments
        needed = tuple(tag for tag in one.add_tags if tag.startswith(ON) or tag == DELETED)
        if needed != one.add_tags:
            return await _amend(keeper, [one.model_copy(update={"add_tags": needed})])
        if not needed:
            raise
        # It is full of a person's tags. What is not known to be nowhere is left as it is.
        return [Amended(episode_id=one.episode_id, found=True, tags=needed)]


async def _at_once(calls: Sequence[Coroutine[None, None, T]]) -> list[T]:
    """All results in order, a few calls at a time; a failure ends them."""
    results: list[T] = []
    for start in range(0, len(calls), AT_ONCE):
        done = await asyncio.gather(*calls[start : start + AT_ONCE], return_exceptions=True)
        for one in done:
            if isinstance(one, BaseException):
                for call in calls[start + AT_ONCE :]:
                    call.close()
                raise one
            results.append(one)
    return results
