"""Which models there are, asked of backends that may be slow or away."""

import asyncio
from collections.abc import Sequence

from services.gateway.backends.base import BackendFailure
from services.gateway.surfaces.catalogue import Catalogue

from .house import Scripted


class Listing(Scripted):
    """A backend whose list takes as long as a test says, or fails."""

    def __init__(self, name: str, *, hangs: bool = False, fails: bool = False) -> None:
        super().__init__(name, [])
        self.hangs = hangs
        self.fails = fails
        self.times = 0
        self.looked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def models(self) -> Sequence[str]:
        self.times += 1
        self.looked.set()
        if self.hangs:
            await self.go_on.wait()
        if self.fails:
            raise BackendFailure("is away")
        return self.listed


async def test_one_that_hangs_or_fails_takes_nothing_from_the_others() -> None:
    """A backend that does not list in time, or is away, has no models; the others have theirs."""
    backends = [Listing("hanging", hangs=True), Listing("away", fails=True), Listing("there")]
    catalogue = Catalogue(backends, within=0.05)
    assert await catalogue.listed() == {"hanging": (), "away": (), "there": ("default-model",)}


async def test_many_callers_ask_once() -> None:
    """Callers at the same moment share one look; later ones get what is known, while it is looked up anew."""
    backend = Listing("there", hangs=True)
    catalogue = Catalogue([backend], fresh=0.0)
    callers = [asyncio.create_task(catalogue.listed()) for _ in range(10)]
    await asyncio.sleep(0)
    backend.go_on.set()
    known = await asyncio.gather(*callers)
    assert backend.times == 1
    assert all(one == {"there": ("default-model",)} for one in known)
    backend.listed = ("another",)
    backend.go_on.clear()
    backend.looked.clear()
    assert await catalogue.listed() == {"there": ("default-model",)}
    await asyncio.wait_for(backend.looked.wait(), 10)
    assert backend.times == 2
    await catalogue.close()


async def test_a_caller_that_leaves_does_not_end_the_look_of_others() -> None:
    """The list is looked up for all who wait for it."""
    backend = Listing("there", hangs=True)
    catalogue = Catalogue([backend])
    leaving, staying = (asyncio.create_task(catalogue.listed()) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    backend.go_on.set()
    assert await staying == {"there": ("default-model",)}
