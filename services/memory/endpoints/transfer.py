"""Export and import: JSON lines, streamed, with flat memory in both directions."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from anamnesis.contracts.episodes import Episode, EpisodeCreate, EpisodeFilter, ImportResult, WriteResult, WriteStatus
from services.memory.door import Door, OnConflict
from services.memory.stores.base import Filter, Store

MAX_LINE = 8 << 20  # bytes of one episode
MAX_IMPORT = 4 << 30  # bytes of one import
BATCH = 100  # episodes in one durable write
BATCH_BYTES = 4 << 20


def routes(store: Store, door: Door) -> APIRouter:
    router = APIRouter(tags=["transfer"])

    @router.post("/api/episodes/export", response_class=StreamingResponse)
    async def export(filter: EpisodeFilter) -> StreamingResponse:
        """All episodes that match, one JSON object a line, in order of id."""
        batches = store.scan(Filter.of(filter))
        first: list[Episode] = await anext(batches, [])  # an error is an error only until the answer has begun

        async def lines() -> AsyncIterator[bytes]:
            yield _joined(first)
            async for batch in batches:
                yield _joined(batch)

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @router.post(
        "/api/episodes/import",
        openapi_extra={
            "requestBody": {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}, "required": True}
        },
    )
    async def import_(
        request: Request,
        on_conflict: Annotated[OnConflict, Query(description="What happens to an id that exists.")] = "skip",
    ) -> ImportResult:
        """Episodes as exported (or as sent to POST /api/episodes), one a line. Safe to repeat."""
        importer = _Importer(door, on_conflict)
        async for line in _lines(request.stream()):
            await importer.take(line)
        return await importer.finish()

    return router


class _Importer:
    """Gathers lines into durable batches and counts what became of them."""

    def __init__(self, door: Door, on_conflict: OnConflict) -> None:
        self._door = door
        self._on_conflict: OnConflict = on_conflict
        self._whole: list[Episode] = []
        self._new: list[EpisodeCreate] = []
        self._bytes = 0
        self._unmet: dict[str, str] = {}
        """Episode -> what supersedes it, where that was not stored yet."""
        self._line = 0
        self._refused = 0
        self._first_refusal: str | None = None
        self._counts = dict.fromkeys(WriteStatus, 0)

    async def take(self, line: bytes | None) -> None:
        """One line; none stands for one that was too long."""
        self._line += 1
        if line is None:
            return self._refuse(f"longer than {MAX_LINE} bytes")
        if not line.strip():
            return None
        try:
            parsed = _parse(line)
        except ValidationError as error:
            problem = error.errors(include_input=False)[0]
            return self._refuse(f"{'.'.join(str(part) for part in problem['loc']) or 'line'}: {problem['msg']}")
        if isinstance(parsed, Episode):
            self._whole.append(parsed)
        else:
            self._new.append(parsed)
        self._bytes += len(line)
        if len(self._whole) + len(self._new) >= BATCH or self._bytes >= BATCH_BYTES:
            await self._flush()
        return None

    async def finish(self) -> ImportResult:
        await self._flush()
        await self._revive()
        return ImportResult(
            created=self._counts[WriteStatus.CREATED],
            updated=self._counts[WriteStatus.UPDATED],
            duplicates=self._counts[WriteStatus.DUPLICATE],
            blocked=self._counts[WriteStatus.BLOCKED],
            refused=self._refused,
            first_refusal=self._first_refusal,
        )

    def _refuse(self, why: str) -> None:
        self._refused += 1
        self._first_refusal = self._first_refusal or f"line {self._line}: {why}"

    async def _flush(self) -> None:
        results = list[WriteResult]()
        if self._whole:
            cleaned = await self._door.clean(self._whole)
            results += await self._door.restore(cleaned, self._on_conflict)
            await self._meet(cleaned)
        if self._new:
            results += await self._door.write(self._new, self._on_conflict)
        for result in results:
            self._counts[result.status] += 1
        self._whole, self._new, self._bytes = [], [], 0

    async def _meet(self, episodes: Iterable[Episode]) -> None:
        """Remember what is superseded by an episode that may still come."""
        successors = {one.episode_id: one.superseded_by for one in episodes if one.superseded_by is not None}
        present = await self._door.store.get(list(set(successors.values())))
        self._unmet.update({one: by for one, by in successors.items() if by not in present})

    async def _revive(self) -> None:
        """Make current what is superseded by an episode that never came: searches would never find it."""
        unmet = list(self._unmet.items())
        for start in range(0, len(unmet), BATCH):
            some = unmet[start : start + BATCH]
            stored = await self._door.store.get([name for pair in some for name in pair])
            lost = [one for one, by in some if by not in stored and one in stored and stored[one].superseded_by == by]
            if lost:
                await self._door.store.supersede(lost, None)


def _joined(batch: Sequence[Episode]) -> bytes:
    return b"".join(episode.model_dump_json().encode() + b"\n" for episode in batch)


def _parse(line: bytes) -> Episode | EpisodeCreate:
    """An exported episode, or one in the shape that POST /api/episodes takes."""
    try:
        return Episode.model_validate_json(line)
    except ValidationError as as_exported:
        try:
            return EpisodeCreate.model_validate_json(line)
        except ValidationError as as_created:
            # Report against the shape that it comes closer to.
            raise min(as_exported, as_created, key=lambda error: error.error_count()) from None


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes | None]:
    """Lines of a stream; none for a line of more than `MAX_LINE` bytes, which is not kept."""
    held, skipping = bytearray(), False
    async for piece in pieces:
        held += piece
        while (end := held.find(b"\n")) >= 0:
            line = bytes(held[:end])
            del held[: end + 1]
            yield None if skipping or len(line) > MAX_LINE else line
            skipping = False
        if len(held) > MAX_LINE:
            held.clear()
            skipping = True
    if held or skipping:
        yield None if skipping else bytes(held)
