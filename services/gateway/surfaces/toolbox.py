"""What the tools of an assistant do: search, timeline, get, add, forget, feedback, each as one question to memory.

Knows nothing of MCP or of who is asking; whether the caller may do it is decided before. Text of episodes goes out
tamed: without secrets, and unable to pass for a block of ours.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote

from anamnesis.contracts.episodes import (
    Changed,
    Episode,
    EpisodeCreate,
    EpisodePage,
    EpisodeSource,
    ForgetReceipt,
    SearchHit,
    SearchRequest,
    SearchResponse,
    Trust,
)
from anamnesis.contracts.tools import (
    DATA,
    EpisodeAdded,
    EpisodeLine,
    EpisodesGot,
    FeedbackCounted,
    SearchFound,
    Timeline,
    WholeEpisode,
)
from anamnesis.contracts.usefulness import EpisodeVerdict, UsefulnessReport, Verdict
from anamnesis.kit.client import Query, ServiceClient
from anamnesis.kit.errors import Conflict, NotFound
from services.gateway.recall import in_line, source_of, tame

KIND = "mcp"
"""The kind of source that an episode has which an assistant wrote by itself."""
LINE = 160  # characters of an episode in a list
WITHIN = 30.0  # seconds for one question to memory, tries included
WRITE_WITHIN = 120.0  # seconds for a write: it is embedded before it is answered
AT_ONCE = 4  # episodes that are read at the same time
NOTHING = "Nothing relevant is remembered. Ask in other words, in all projects, or with weak=true."


class Place(NamedTuple):
    """Where to look; none = everywhere."""

    project: str | None = None
    instance: str | None = None


class Toolbox:
    """`memory` speaks to the memory service with the key between services."""

    def __init__(self, memory: ServiceClient) -> None:
        self._memory = memory

    async def search(self, request: SearchRequest) -> SearchFound:
        """Lines of the episodes that answer a question."""
        found = await self._memory.request(
            "POST", "/api/episodes/search", SearchResponse, body=request, deadline=WITHIN, repeatable=True
        )
        return SearchFound(
            note=DATA if found.results else NOTHING, episodes=tuple(line_of(hit) for hit in found.results)
        )

    async def timeline(
        self, place: Place, episode_id: str | None, moment: datetime | None, before: int, after: int, own: bool
    ) -> Timeline:
        """Lines around an episode or a moment, or up to now; around an episode in its `own` project alone."""
        anchor = await self._read(episode_id) if episode_id is not None else None
        if anchor is not None:
            moment = anchor.timestamp
            place = place._replace(project=anchor.project) if own else place
        earlier = await self._page(place, before, until=moment)
        found = [*reversed(earlier.episodes)]
        later_total = 0
        if moment is not None:
            # A page is newest first, and those wanted are the oldest of it: they stand at its end.
            wanted = after + (anchor is not None)
            later_total = (await self._page(place, 1, since=moment)).total
            later = await self._page(place, wanted, since=moment, skip=max(0, later_total - wanted))
            found += reversed(later.episodes)
            if anchor is not None and all(one.episode_id != anchor.episode_id for one in found):
                found.insert(len(earlier.episodes), anchor)  # of another project, or beyond many of the same moment
            later_total -= len(later.episodes)
        return Timeline(
            note=DATA if found else "Nothing is remembered there.",
            at=moment,
            episodes=tuple(line_of(one) for one in found),
            more_before=earlier.total > len(earlier.episodes),
            more_after=later_total > 0,
        )

    async def get(self, ids: Sequence[str], most: int, offset: int) -> EpisodesGot:
        """Whole episodes with at most `most` characters of text in all, each from `offset` on."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def read(episode_id: str) -> Episode | None:
            async with gate:
                try:
                    return await self._read(episode_id)
                except NotFound:
                    return None

        wanted = tuple(dict.fromkeys(ids))
        episodes = await asyncio.gather(*(read(one) for one in wanted))
        got = [one for one in episodes if one is not None]
        texts = [text_of(one)[offset:] for one in got]
        shares = shared_out([len(text) for text in texts], most)
        return EpisodesGot(
            note=DATA if got else "None of these ids is remembered; search gives ids.",
            episodes=tuple(
                _whole(one, text[:share], offset + share if share < len(text) else None)
                for one, text, share in zip(got, texts, shares, strict=True)
            ),
            missing=tuple(name for name, one in zip(wanted, episodes, strict=True) if one is None),
        )

    async def add(self, episode: EpisodeCreate) -> EpisodeAdded:
        """Keep an episode; where the same is remembered already, that one is named."""
        try:
            written = await self._memory.request(
                "POST", "/api/episodes", Episode, body=episode, deadline=WRITE_WITHIN, repeatable=True
            )
        except Conflict as conflict:
            known = conflict.detail.get("episode_id") if isinstance(conflict.detail, dict) else None
            status = conflict.detail.get("status") if isinstance(conflict.detail, dict) else None
            if not isinstance(known, str) or status != "duplicate":
                raise
            return EpisodeAdded(id=known, created=False)
        return EpisodeAdded(id=written.episode_id, created=True)

    async def forget(self, episode_id: str) -> ForgetReceipt:
        path = f"/api/episodes/{quote(episode_id)}/forget"
        return await self._memory.request("POST", path, ForgetReceipt, deadline=WITHIN)

    async def feedback(self, useful: Sequence[str], not_useful: Sequence[str]) -> FeedbackCounted:
        verdicts = [EpisodeVerdict(episode_id=one, verdict=Verdict.HELPFUL) for one in dict.fromkeys(useful)]
        verdicts += [EpisodeVerdict(episode_id=one, verdict=Verdict.UNHELPFUL) for one in dict.fromkeys(not_useful)]
        report = UsefulnessReport(verdicts=tuple(verdicts))
        changed = await self._memory.request(
            "POST", "/api/episodes/usefulness", Changed, body=report, deadline=WITHIN, repeatable=False
        )
        return FeedbackCounted(counted=changed.changed)

    async def _read(self, episode_id: str) -> Episode:
        return await self._memory.get(f"/api/episodes/{quote(episode_id)}", Episode, deadline=WITHIN)

    async def _page(
        self,
        place: Place,
        limit: int,
        since: datetime | None = None,
        until: datetime | None = None,
        skip: int = 0,
    ) -> EpisodePage:
        query: Query = {
            "project": place.project,
            "instance": place.instance,
            "since": since.isoformat() if since is not None else None,
            "until": until.isoformat() if until is not None else None,
            "skip": skip,
            "limit": max(1, limit),
        }
        page = await self._memory.get("/api/episodes", EpisodePage, query, deadline=WITHIN)
        return page if limit else page.model_copy(update={"episodes": ()})


def made_by_assistant(
    summary: str,
    detail: str | None,
    project: str,
    instance: str,
    tags: Sequence[str],
    when: datetime | None,
) -> EpisodeCreate:
    """An episode in an assistant's own words, and marked as such."""
    return EpisodeCreate(
        timestamp=when,
        instance=instance,
        project=project,
        summary=summary,
        raw_exchange=detail,
        tags=tuple(tags),
        source=EpisodeSource(kind=KIND),
        trust=Trust.ASSISTANT,
    )


def line_of(episode: Episode) -> EpisodeLine:
    """An episode in one line: the beginning of its summary."""
    words = in_line(episode.summary[: 8 * LINE])
    return EpisodeLine(
        id=episode.episode_id,
        when=episode.timestamp,
        project=in_line(episode.project),
        line=words if len(words) <= LINE else f"{words[:LINE].rsplit(' ', 1)[0]}…",
        score=round(episode.score, 3) if isinstance(episode, SearchHit) else None,
    )


def text_of(episode: Episode) -> str:
    """All that is remembered: the summary, then what was said, unless one holds the other."""
    summary, raw = tame(episode.summary), tame(episode.raw_exchange or "")
    if not raw or raw in summary:
        return summary
    return raw if summary in raw else f"{summary}\n\n{raw}"


def shared_out(lengths: Sequence[int], most: int) -> list[int]:
    """How much of each text fits into `most` in all: short ones whole, the rest shared evenly."""
    shares = [0] * len(lengths)
    left = most
    for done, at in enumerate(sorted(range(len(lengths)), key=lambda at: lengths[at])):
        shares[at] = min(lengths[at], left // (len(lengths) - done))
        left -= shares[at]
    return shares


def _whole(episode: Episode, text: str, next_offset: int | None) -> WholeEpisode:
    return WholeEpisode(
        id=episode.episode_id,
        when=episode.timestamp,
        project=in_line(episode.project),
        instance=in_line(episode.instance),
        source=in_line(source_of(episode)),
        trust=episode.trust,
        tags=tuple(in_line(tag) for tag in episode.tags),
        superseded_by=episode.superseded_by,
        text=text,
        next_offset=next_offset,
    )
