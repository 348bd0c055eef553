"""Draw what is alike together: `python -m services.memory.picture.refine PARENT`, from standard input to output.

Principal components show the two widest directions of a store and nothing else: subjects lie upon one another.
t-SNE moves each point near those that it is like, which people can read. It takes seconds for a thousand points and
most of a minute for ten thousand, so it runs in a process of its own: it can be stopped, it stands back behind
everybody else, and its memory goes back when it ends.

In: an array (n c) of principal components, as `numpy.save` writes it. Out: (n 2), the same way.
"""

import asyncio
import io
import os
import sys

import numpy as np
from numpy.typing import NDArray

from anamnesis.kit.errors import Unavailable
from services.memory.embedding.parent import end_with
from services.memory.embedding.process import environment
from services.memory.picture.projection import Places

LEAST, MOST = 50, 20_000
"""Points that are worth refining: of fewer everybody sees all, more would take minutes."""
COMPONENTS = 50
SECONDS = 600.0
"""Beyond it the picture stays as it was."""
_PERPLEXITY = 30.0
"""About how many neighbours each point is kept near to; 15 and 30 were looked at, this drew the clearer islands."""
_ITERATIONS = 500
_ANGLE = 0.6
_NICE = 15


async def refined(components: NDArray[np.float64]) -> Places:
    """(n c) -> (n 2), by a process of its own. Raises `Unavailable` where it fails or takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "services.memory.picture.refine", str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(1),
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"the process that draws the picture did not start: {error.strerror}") from error
    try:
        async with asyncio.timeout(SECONDS):
            drawn, _ = await process.communicate(_packed(components))
    except TimeoutError:
        raise Unavailable(f"the picture was not drawn within {SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        places: Places = np.load(io.BytesIO(drawn), allow_pickle=False)
    except (ValueError, EOFError):
        raise Unavailable(f"the process that draws the picture ended (exit {process.returncode})") from None
    return places


def tsne(components: NDArray[np.float64]) -> Places:
    """(n c) -> (n 2): the same for the same components, as it starts from the first two of them."""
    from sklearn.manifold import TSNE  # type: ignore[import-untyped]  # seconds, and only this process needs it

    start = components[:, :2] / max(float(components[:, 0].std()), 1e-12) * 1e-4
    perplexity = min(_PERPLEXITY, (len(components) - 1) / 3)
    method = TSNE(2, init=start, random_state=0, n_jobs=1, perplexity=perplexity, max_iter=_ITERATIONS, angle=_ANGLE)
    drawn: Places = np.asarray(method.fit_transform(components.astype(np.float32)), dtype=np.float64)
    return drawn


def _packed(array: NDArray[np.float64]) -> bytes:
    written = io.BytesIO()
    np.save(written, array, allow_pickle=False)
    return written.getvalue()


def main() -> None:
    os.nice(_NICE)
    given: NDArray[np.float64] = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    sys.stdout.buffer.write(_packed(tsne(given)))


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    main()
