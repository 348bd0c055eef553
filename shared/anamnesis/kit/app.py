"""The app factory: what every service has in common, whatever it does.

Health, readiness and metrics, a request id, a body limit, TrustedHost, authentication that denies
by default, one shape of errors, and logs without content.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType

import structlog
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import JsonValue
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anamnesis import __version__
from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.kit.auth import OPEN, READING_PATHS, DenyByDefault, KeyHolder, Way
from anamnesis.kit.errors import AnamnesisError, Invalid, Unavailable, from_wire
from anamnesis.kit.hosts import TrustedHosts
from anamnesis.kit.limits import BodyLimit
from anamnesis.kit.logs import logger, where
from anamnesis.kit.metrics import Metrics
from anamnesis.kit.responses import error_response

MAX_BODY = 32 << 20  # bytes; routes that take more say so themselves
LONGEST_PLACE = 300  # characters of where something does not fit: names of fields are the caller's
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
Ready = Callable[[], Awaitable[None]]


def create_app(
    service: str,
    *,
    routers: Sequence[APIRouter],
    holder: KeyHolder,
    allowed_hosts: Sequence[str],
    ready: Ready,
    lifespan: Lifespan,
    max_body: int = MAX_BODY,
    larger: Mapping[str, int] = MappingProxyType({}),
    opened: Collection[Way] = OPEN,
    reading: Collection[str] = READING_PATHS,
    stranger: Callable[[Request], Response | None] | None = None,
    around: Sequence[Middleware] = (),
    before: Sequence[Middleware] = (),
    behind: Sequence[Middleware] = (),
) -> FastAPI:
    """Build a service's app.

    `ready` raises `Unavailable` while the service cannot do its work; `larger` names the paths whose bodies have
    another bound than `max_body` bytes. `opened`, `reading` and `stranger` are those of `DenyByDefault`. Middleware
    of the service's own stands `around` everything, `before` the door where keys are asked for, or `behind` it.
    """
    metrics = Metrics(service)
    app = FastAPI(
        title=f"Anamnesis {service}",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would name this service's own address to callers of the gateway
        middleware=[
            *around,
            Middleware(Observe, metrics=metrics),
            Middleware(TrustedHosts, allowed=allowed_hosts),
            *before,
            Middleware(DenyByDefault, holder=holder, opened=opened, reading=reading, stranger=stranger),
            *behind,
            Middleware(BodyLimit, limit=max_body, larger=larger),
        ],
        responses={"4XX": {"model": ErrorEnvelope}, "5XX": {"model": ErrorEnvelope}},
    )
    app.state.metrics = metrics
    app.add_exception_handler(AnamnesisError, _on_own)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)

    @app.get("/health", tags=["service"])
    async def health() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    @app.get("/ready", tags=["service"], responses={503: {"model": ErrorEnvelope}})
    async def readiness() -> dict[str, str]:
        """The service can do its work now."""
        await ready()
        return {"status": "ready"}

    @app.get("/metrics", tags=["service"], response_class=Response)
    async def expose() -> Response:
        """Prometheus metrics."""
        return Response(metrics.render(), media_type="text/plain; version=0.0.4")

    for router in routers:
        app.include_router(router)
    return app


class Observe:
    """Gives every request an id, a metric and a line in the log.

    It also turns what nobody caught into a 500 that names the request id, so that no client ever
    sees a traceback and no log ever sees content.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0
        started = time.perf_counter()

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except Exception as error:  # noqa: BLE001 - the edge of the process: logged by type and place
            known = error.__cause__ if isinstance(error.__cause__, AnamnesisError) else error
            if isinstance(known, AnamnesisError):  # the framework wraps what comes after the answer has begun
                logger().warning("answer broken off", error=known.code)
            else:
                logger().error("unhandled", error=where(error))
            if not status:
                message = f"something went wrong here; the log of this service names request {request_id}"
                await error_response(AnamnesisError(message))(scope, receive, watched_send)
            # Otherwise the server ends the connection without the end mark of the body. Were the error passed on, it
            # would log the whole of it, and messages may quote what was being processed.
        except asyncio.CancelledError:
            # The server stops, and has waited for this request as long as it does.
            logger().warning("request given up at the stop")
            if not status:
                stopping = Unavailable("the service is stopping; try again in a moment")
                await error_response(stopping)(scope, receive, watched_send)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.observe(scope["method"], route, status, seconds)
            level = "debug" if route in ("/health", "/ready", "/metrics") else "info"
            getattr(logger(), level)(
                "request", method=scope["method"], route=route, status=status, ms=round(seconds * 1000, 1)
            )
            structlog.contextvars.unbind_contextvars("request_id")


async def _on_own(_: Request, error: Exception) -> Response:
    assert isinstance(error, AnamnesisError)
    return error_response(error)


async def _on_invalid(_: Request, error: Exception) -> Response:
    """What does not fit the contract: where and why, never the value itself."""
    assert isinstance(error, RequestValidationError)
    problems: list[JsonValue] = [
        {"where": ".".join(str(part) for part in problem["loc"])[:LONGEST_PLACE], "why": str(problem["msg"])}
        for problem in error.errors()[:20]
    ]
    return error_response(Invalid("the request does not fit; see detail for where and why", problems))


async def _on_http(_: Request, error: Exception) -> Response:
    """What the framework refuses by itself: unknown paths, methods, bodies that are too large."""
    assert isinstance(error, HTTPException)
    own = from_wire(error.status_code, b"")
    own.status = error.status_code  # 405 and friends have no class of their own
    own.message = {404: "there is nothing at this path", 405: "this path does not take that method"}.get(
        error.status_code, str(error.detail)
    )
    response = error_response(own)
    response.headers.update(error.headers or {})
    return response
