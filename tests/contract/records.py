"""Records for tests of stores: small, seeded by their id, complete."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from anamnesis.contracts.episodes import Episode, EpisodeSource, Trust
from services.memory.stores.base import Record, Vectors

MODEL = "test/one"
OTHER = "test/two"
DIMENSION = 8
START = datetime(2026, 1, 1, tzinfo=UTC)


def make_vectors(seed: str, windows: int = 1, dimension: int = DIMENSION) -> Vectors:
    """(windows dimension), unit length, the same for the same seed."""
    generator = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little"))
    vectors = generator.standard_normal((windows, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def content_hash(summary: str, raw_exchange: str | None = None) -> str:
    return hashlib.sha256(f"{summary}\x00{raw_exchange or ''}".encode()).hexdigest()


def make_record(
    episode_id: str,
    *,
    summary: str | None = None,
    raw_exchange: str | None = None,
    project: str = "atlas",
    instance: str = "laptop",
    minute: int = 0,
    tags: Sequence[str] = (),
    session: str | None = None,
    position: int | None = None,
    trust: Trust = Trust.USER,
    model: str | None = MODEL,
    windows: int = 1,
    dimension: int = DIMENSION,
    vectors: Vectors | None = None,
    terms: Mapping[str, int] | None = None,
    superseded_by: str | None = None,
    consolidated_from: Sequence[str] = (),
    retrieval_count: int = 0,
    last_retrieved: datetime | None = None,
) -> Record:
    """An episode of its own content, `minute` minutes after START; `model` none = without vectors.

    Vectors are drawn from the id unless they are given; terms are the words of the summary unless they are given.
    """
    text = summary if summary is not None else f"about {episode_id}"
    episode = Episode(
        episode_id=episode_id,
        timestamp=START + timedelta(minutes=minute),
        ingested_at=START + timedelta(days=100),
        instance=instance,
        project=project,
        summary=text,
        raw_exchange=raw_exchange,
        tags=tuple(tags),
        source=EpisodeSource(kind="test", path="/tmp/a.jsonl", session=session, position=position, uuid=episode_id),
        trust=trust,
        embedding_model=model,
        content_hash=content_hash(text, raw_exchange),
        retrieval_count=retrieval_count,
        last_retrieved=last_retrieved,
        superseded_by=superseded_by,
        consolidated_from=tuple(consolidated_from),
    )
    if model is not None and vectors is None:
        vectors = make_vectors(episode_id, windows, dimension)
    return Record(episode, vectors if model is not None else None, terms or Counter(text.lower().split()))
