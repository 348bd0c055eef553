"""Settings of the memory service."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from anamnesis.kit.settings import ApiKey, Settings


class MemorySettings(Settings):
    """What the memory service reads from its environment."""

    memory_port: int = Field(default=3012, ge=1, le=65535)
    """Port of the memory service."""
    api_key: ApiKey | None = None
    """The first API key, at least 16 characters; made and printed once when none is given."""
    mongodb_uri: SecretStr | None = None
    """MongoDB with vector search (Atlas Local, Atlas); none = the embedded SQLite store."""
    mongodb_database: str = Field(default="anamnesis", min_length=1, max_length=63)
    """Database within MongoDB."""
    embedding_model: str = "all-MiniLM-L6-v2"
    """Embedding model of a new store; later switched by POST /api/embedding/model."""
    embedding_dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of embedding: bf16 where the processor is faster with it (measured at start), or as named."""
    embedding_cpu_percent: int = Field(default=50, ge=1, le=100)
    """Share of the processor's cores that embedding may use at first, in percent."""
    models_dir: Path | None = None
    """Directory of embedding models; none = `models` in the data directory."""
    allow_downloads: bool = True
    """Whether a model that is not on this machine may be fetched from its hub."""
    embed_queue: int = Field(default=4096, ge=1, le=1_000_000)
    """Windows of text that may wait for embedding before writers get 429."""
    reembed_checkpoint: int = Field(default=25, ge=1, le=10_000)
    """Episodes between two checkpoints of a re-embedding."""
    redact_entropy: bool = False
    """Also redact words that look random; catches more, and more that is harmless."""
    reranker: Path | None = None
    """Directory of a cross-encoder that reorders the best hits; none = no reranking."""
