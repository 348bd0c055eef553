"""One house a test: a gateway, memory's keys behind it, and nobody logged in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .house import House, house


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as one:
        yield one
