"""How the time of a function grows with its text."""

import time
from collections.abc import Callable


def assert_linear(function: Callable[[str], object], text: Callable[[int], str], size: int) -> None:
    """Four times `size` characters take at most about four times as long; by the processor's clock, which does not
    see what else the machine does."""

    def seconds(length: int) -> float:
        made = text(length)
        return min(_seconds(function, made) for _ in range(2))

    assert seconds(4 * size) < 12 * seconds(size) + 0.05


def _seconds(function: Callable[[str], object], text: str) -> float:
    start = time.process_time()
    function(text)
    return time.process_time() - start
