"""A small quick server in the place of memory and of a trainer, and a plain httpx pass-through to compare with.

    python -m bench.upstream PORT           # the server
    python -m bench.upstream PORT TARGET    # the pass-through to TARGET

`/api/episodes` is about 1 kB of JSON; `/generate` and `/v1/chat/completions` stream 64 pieces as a trainer and as an
OpenAI-compatible server do.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import orjson
import uvicorn
from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from anamnesis.contracts.keys import Identity, Scope

PIECES = 64
PAGE = orjson.dumps({"episodes": [{"episode_id": f"ep_{number}", "summary": "word " * 18} for number in range(9)]})


async def _page(_: web.Request) -> web.Response:
    return web.Response(body=PAGE, content_type="application/json")


async def _check(_: web.Request) -> web.Response:
    identity = Identity(key_id="bench", name="bench", scope=Scope.SERVICE)
    return web.Response(text=identity.model_dump_json(), content_type="application/json")


async def _ready(_: web.Request) -> web.Response:
    return web.json_response({"status": "ready"})


async def _search(_: web.Request) -> web.Response:
    return web.json_response({"results": [], "abstained": True})


async def _stream(request: web.Request, frames: list[bytes]) -> web.StreamResponse:
    await request.read()
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    for frame in frames:
        await answer.write(frame)
    await answer.write_eof()
    return answer


def _frame(value: object) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"
GENERATED = [
    *(_frame({"text": f"word{number} "}) for number in range(PIECES)),
    _frame({"text": "", "finish_reason": "stop", "usage": {"input_tokens": 9, "output_tokens": PIECES}}),
    DONE,
]


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _frame({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


COMPLETED = [
    _chunk({"role": "assistant", "content": ""}),
    *(_chunk({"content": f"word{number} "}) for number in range(PIECES)),
    _chunk({}, "stop"),
    DONE,
]


async def _generate(request: web.Request) -> web.StreamResponse:
    return await _stream(request, GENERATED)


async def _complete(request: web.Request) -> web.StreamResponse:
    return await _stream(request, COMPLETED)


def serve(port: int) -> None:
    app = web.Application(client_max_size=64 << 20)
    app.router.add_get("/api/episodes", _page)
    app.router.add_get("/ready", _ready)
    app.router.add_post("/api/keys/check", _check)
    app.router.add_post("/api/episodes/search", _search)
    app.router.add_post("/generate", _generate)
    app.router.add_post("/v1/chat/completions", _complete)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


def pass_through(port: int, target: str) -> None:
    """The shortest proxy that one writes with httpx and Starlette: what the gateway is compared with."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=target, timeout=60, trust_env=False) as client:
            app.state.client = client
            yield

    async def forward(request: Request) -> Response:
        client: httpx.AsyncClient = request.app.state.client
        sent = client.build_request(request.method, request.url.path, content=await request.body())
        sent.headers["content-type"] = request.headers.get("content-type", "application/json")
        answer = await client.send(sent, stream=True)

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in answer.aiter_raw():
                yield piece
            await answer.aclose()

        return StreamingResponse(pieces(), answer.status_code, {"content-type": answer.headers["content-type"]})

    app = Starlette(routes=[Route("/{rest:path}", forward, methods=["GET", "POST"])], lifespan=lifespan)
    uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, access_log=False)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        pass_through(int(sys.argv[1]), sys.argv[2])
    else:
        serve(int(sys.argv[1]))
