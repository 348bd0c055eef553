"""One embedding worker: a process that holds one model and turns batches of texts into unit vectors.

Started by `pool` as `python -m services.memory.embedding.worker SETUP`; reads batches on standard
input, answers on standard output (see `wire`), ends when its input ends or its parent dies.
"""

import math
import os
import signal
import sys
import time
import traceback
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from services.memory.embedding.cpu import bf16_is_faster
from services.memory.embedding.parent import end_with
from services.memory.embedding.wire import Load, Ready, Refused, Vectors, line, parse_batch

_STEP, _SHORT_STEP = 16, 8
"""Tokens to a multiple of which texts are padded."""
_SHORT = 64
"""Tokens up to which a text is short: there the coarser step would waste a fifth."""


class Embedder:
    """A loaded model on one thread."""

    def __init__(self, setup: Load) -> None:
        # Imported here: loading torch takes seconds, during which a dying parent must already be noticed.
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(setup.threads)
        torch.set_num_interop_threads(1)
        self.bf16 = setup.precision == "bf16" or (setup.precision == "auto" and bf16_is_faster())
        self._model = SentenceTransformer(
            setup.directory,
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": torch.bfloat16 if self.bf16 else torch.float32, "use_safetensors": True},
        )
        self._model.eval()
        self._inference = torch.inference_mode
        # The registry's prefixes are the only ones: a default prompt of the model's files would come on top.
        self._model.default_prompt_name = None
        own_limit = self._model.max_seq_length
        self.max_tokens = min(setup.max_tokens, own_limit) if own_limit else setup.max_tokens
        self._model.max_seq_length = self.max_tokens
        # The kernels' library keeps memory for every shape it has met, without end: texts are padded to few lengths
        # (and batches cut to few sizes, see `batching`). Measured over 500 batches: 100 MB instead of 700.
        self._steps = {wanted: math.gcd(wanted, self.max_tokens) for wanted in (_STEP, _SHORT_STEP)}
        self.dimension = self.embed(["warm up"])[0].shape[1]

    def embed(self, texts: list[str]) -> tuple[NDArray[np.float32], int]:
        """(n d) unit vectors, and how many texts were longer than the model takes."""
        tokens = self._model.tokenizer(texts, truncation=False, padding=False, verbose=False)["input_ids"]
        over = sum(len(ids) > self.max_tokens for ids in tokens)
        step = self._steps[_SHORT_STEP if max(map(len, tokens)) <= _SHORT else _STEP]
        # What `encode` does around these two calls costs a quarter of a question; batches are sorted and cut before.
        with self._inference():
            features = self._model.preprocess(texts, processing_kwargs={"text": {"pad_to_multiple_of": step}})
            raw = self._model.forward(features)["sentence_embedding"].float().numpy()
        # In bf16 the model's own normalisation is only as exact as bf16: do it again in float32.
        vectors: NDArray[np.float32] = raw
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(lengths, np.finfo(np.float32).tiny), over


def _answer(embedder: Embedder, texts: list[str]) -> bytes:
    began = time.perf_counter()
    vectors, over = embedder.embed(texts)
    if not np.isfinite(vectors).all():
        return line(Refused(reason="the model gave numbers that are not finite"))
    rows, dimension = vectors.shape
    seconds = time.perf_counter() - began
    return line(Vectors(rows=rows, dimension=dimension, seconds=seconds, over_length=over)) + vectors.tobytes()


def _place(error: BaseException) -> str:
    """Type and place of an error without its message, which might quote a text."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {os.path.basename(frame.filename)}:{frame.lineno}"


def serve(setup: Load, source: BinaryIO, sink: BinaryIO) -> None:
    """Load, say so, then answer one batch after another until the input ends."""
    try:
        embedder = Embedder(setup)
    except Exception as error:  # noqa: BLE001 - the edge of this process: whatever hinders loading is the answer
        sink.write(line(Refused(reason=f"{type(error).__name__}: {str(error)[:500]}")))
        sink.flush()
        return
    sink.write(line(Ready(dimension=embedder.dimension, max_tokens=embedder.max_tokens, bf16=embedder.bf16)))
    sink.flush()
    while received := source.readline():
        try:
            answer = _answer(embedder, parse_batch(received))
        except Exception as error:  # noqa: BLE001 - the edge of this process: one bad batch must not end it
            answer = line(Refused(reason=_place(error)))
        sink.write(answer)
        sink.flush()


def main() -> None:
    setup = Load.model_validate_json(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    end_with(setup.parent)  # where the kernel does not do that, the end of the input does
    if setup.nice:
        os.nice(setup.nice)
    # Libraries print: what they write to standard output must not end up between our answers.
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        serve(setup, sys.stdin.buffer, sink)
        sink.close()
    except BrokenPipeError:  # the parent is gone
        pass
    os._exit(0)  # nothing to tidy, and torch takes its time


if __name__ == "__main__":
    main()
