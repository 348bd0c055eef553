"""Where documents are handed in: one after the other is read, cut and pushed to memory; nothing is kept here."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from anamnesis.contracts.base import now
from anamnesis.contracts.documents import DocumentIngested
from anamnesis.contracts.episodes import (
    MAX_PLACE,
    MAX_RAW,
    EpisodeBatch,
    EpisodeCreate,
    EpisodeSource,
    Trust,
    WriteResult,
    WriteStatus,
)
from anamnesis.crawl.episodes import telling, without_secrets
from anamnesis.cutting import Piece
from anamnesis.destination import Destination
from anamnesis.documents import Document, DocumentRefused, Limits, extract, kind_of, pieces
from anamnesis.kit.errors import Busy, Invalid
from anamnesis.redact import redact
from anamnesis.transcripts.episodes import storable

AT_ONCE = 1
"""Documents that are held and read at the same time: each may take as much memory as its reader is allowed."""
WAITING = 8
"""Those that wait for their turn, with their bodies still at the sender's."""
PATIENCE = 60.0  # seconds that one waits
BATCH_EPISODES = 100
BATCH_CHARACTERS = 4 << 20
MAX_FILE_NAME = 200  # characters
MAX_TITLE = 300


class HandedIn(NamedTuple):
    data: bytes
    name: str
    """What the file is called: its ending says what it is."""
    project: str
    tags: tuple[str, ...]
    trust: Trust
    url: str | None = None


class _Read(NamedTuple):
    document: Document
    characters: int
    pieces: Sequence[Piece]
    name: str
    url: str | None
    redactions: int


class Desk:
    """Takes documents. `limits` bound the process that reads each one."""

    def __init__(self, destination: Destination, instance: str, limits: Limits, entropy: bool) -> None:
        self._destination = destination
        self._instance = instance
        self._limits = limits
        self._entropy = entropy
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Held from before a document is received until it is remembered. Raises `Busy` where too many wait."""
        if self._waiting >= WAITING:
            raise Busy("too many documents are being read; try again in a moment", retry_after=10.0)
        self._waiting += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await self._places.acquire()
        except TimeoutError:
            raise Busy("the documents before this one take long; try again in a moment", retry_after=30.0) from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    async def take(self, handed: HandedIn) -> DocumentIngested:
        """Remember a document; hold a place meanwhile. The same bytes in the same project are the same episodes.

        Raises `Invalid` where it cannot be read, with the reason in the detail, and what the destination raises.
        """
        if kind_of(handed.name) is None:
            raise Invalid(
                "this is no document that can be read: the name must end in .docx, .pdf, .html, .md or .txt",
                {"reason": "kind"},
            )
        try:
            read = await asyncio.to_thread(self._read, handed)
        except DocumentRefused as refused:
            raise Invalid(refused.message, {"reason": refused.reason}) from None
        episodes = self._episodes(handed, read)
        if not episodes:
            raise Invalid(
                "no text was found in it; a document of pictures needs its text recognised first", {"reason": "empty"}
            )
        results: list[WriteResult] = []
        for batch in _batches(episodes):
            results += (await self._destination.push(EpisodeBatch(episodes=tuple(batch)))).results
        return DocumentIngested(
            name=read.name,
            kind=read.document.kind.value,
            title=storable(read.document.title)[:MAX_TITLE],
            pages=read.document.pages,
            characters=read.characters,
            truncated=read.document.truncated,
            episodes=tuple(one.duplicate_of or one.episode_id for one in results),
            created=sum(one.status is WriteStatus.CREATED for one in results),
            duplicate=sum(one.status is WriteStatus.DUPLICATE for one in results),
            blocked=sum(one.status is WriteStatus.BLOCKED for one in results),
            redactions=read.redactions + sum(one.redactions for one in results),
        )

    def _read(self, handed: HandedIn) -> _Read:
        document = extract(handed.data, handed.name, self._limits)
        clean, text, counts = without_secrets(document, self._entropy)
        name, url = redact(handed.name, self._entropy), redact(handed.url or "", self._entropy)
        for one in (name, url):
            counts.update(one.counts)
        return _Read(clean, len(text), pieces(clean), name.text, url.text[:MAX_PLACE] or None, counts.total())

    def _episodes(self, handed: HandedIn, read: _Read) -> list[EpisodeCreate]:
        digest = hashlib.sha256(handed.data + f"\0{read.document.kind}\0{handed.project}".encode()).hexdigest()
        title = storable(read.document.title)[:MAX_TITLE] or read.name
        moment = now()
        episodes: list[EpisodeCreate] = []
        for piece in read.pieces:
            text = storable(piece.text)[:MAX_RAW]
            if not text:
                continue
            section = storable(piece.section)[:MAX_PLACE]
            about = telling(text, section)
            episodes.append(
                EpisodeCreate(
                    episode_id=f"ep_doc_{digest[:24]}_{len(episodes)}",
                    timestamp=moment,
                    instance=self._instance,
                    project=handed.project,
                    summary=f"{title}: {section[:1000]}\n{about}" if section else f"{title}\n{about}",
                    raw_exchange=text,
                    tags=tuple(dict.fromkeys(("doc", *handed.tags))),
                    source=EpisodeSource(
                        kind="document",
                        path=None if read.url else read.name,
                        url=read.url,
                        session=f"doc-{digest[:32]}",
                        position=len(episodes),
                        line=piece.line,
                        last_line=max(piece.line, piece.last_line),
                        page=piece.page,
                        section=section or None,
                    ),
                    trust=handed.trust,
                )
            )
        return episodes


def _batches(episodes: Sequence[EpisodeCreate]) -> list[list[EpisodeCreate]]:
    batches: list[list[EpisodeCreate]] = [[]]
    size = 0
    for one in episodes:
        own = len(one.raw_exchange or "")
        if batches[-1] and (len(batches[-1]) >= BATCH_EPISODES or size + own > BATCH_CHARACTERS):
            batches.append([])
            size = 0
        batches[-1].append(one)
        size += own
    return batches
