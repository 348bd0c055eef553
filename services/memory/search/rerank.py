"""An optional second judge of the best candidates: a cross-encoder that reads question and passage together.

Off unless a model directory is configured. It costs a forward pass a passage, so it sees only the first few; how
its opinion enters the score is `ranking.reranked`. Its gain was not measured: no such model ships with the project.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

DEPTH = 20
"""Candidates that are judged."""
WEIGHT = 3.0
"""Above the sum of all other terms: among the candidates judged, the judge decides. Not measured."""
MAX_TOKENS = 512
_BATCH = 8


class Reranker(Protocol):
    async def judge(self, question: str, passages: Sequence[str]) -> list[float]:
        """How well each passage answers the question, 0..1, in the order of the passages."""


class CrossEncoderReranker:
    """A sentence-transformers CrossEncoder from a local directory, in a thread of its own.

    Passages longer than the model takes are judged by their beginning. Raises OSError where the directory holds
    no model, ValueError where the model gives more than one number a pair.
    """

    def __init__(self, directory: Path) -> None:
        # Imported here: a service without a reranker must not carry torch in its own process.
        import torch
        from sentence_transformers import CrossEncoder

        if not (directory / "config.json").is_file():
            raise FileNotFoundError(f"{directory} holds no cross-encoder (config.json is missing)")
        self._model = CrossEncoder(str(directory), device="cpu", max_length=MAX_TOKENS, local_files_only=True)
        if self._model.num_labels != 1:
            raise ValueError(f"{directory}: {self._model.num_labels} labels; a reranker has one")
        self._sigmoid = torch.nn.Sigmoid()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rerank")

    async def judge(self, question: str, passages: Sequence[str]) -> list[float]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._scores, question, passages)

    def _scores(self, question: str, passages: Sequence[str]) -> list[float]:
        pairs = [(question, passage) for passage in passages]
        if not pairs:
            return []
        found = self._model.predict(pairs, batch_size=_BATCH, activation_fn=self._sigmoid, show_progress_bar=False)
        return [float(score) for score in found]

    def close(self) -> None:
        """Let the thread end; what waits for it is dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)
