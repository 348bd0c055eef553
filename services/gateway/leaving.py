"""Work that is only worth doing while its caller is still there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from anamnesis.kit.errors import AnamnesisError

T = TypeVar("T")


class CallerLeft(AnamnesisError):
    """The caller closed the connection: an event, nobody is there to be told."""

    status, code = 499, "caller_left"


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives. It is cancelled as soon as the caller leaves, and `CallerLeft` is raised.

    Only for requests whose body has been read: what is received after it can only be the disconnect.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.create_task(left(request.receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise CallerLeft("the caller left before the answer was there")
    finally:
        for one in (task, watch):
            one.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def left(receive: Receive) -> None:
    """Returns when the caller has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
