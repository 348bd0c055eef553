"""One stand for each backend: a real small server, or a real small program, that plays what a test says."""

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import psutil
from pydantic import HttpUrl, JsonValue, SecretStr

from anamnesis.contracts.base import JsonObject
from services.gateway.backends.anamnesis_gpt import anamnesis_gpt
from services.gateway.backends.base import (
    Ask,
    Backend,
    Delta,
    Image,
    Message,
    Piece,
    Text,
    TextDelta,
    Tool,
)
from services.gateway.backends.claude import Claude
from services.gateway.backends.claude_cli import ClaudeCli
from services.gateway.backends.ollama import Ollama
from services.gateway.backends.openai import openai
from services.gateway.settings import GatewaySettings

from ..upstreams import NDJSON, Cut, Frame, Head, Script, Stall, Upstream, ndjson, refusing, respond, sse, stream

PRIVATE = "the-words-of-the-conversation"
"""Stands in every question; no reason may ever quote it."""
SERVICE_KEY = "service-key-0123456789"
OPENAI_KEY = "sk-openai-0123456789"
CLAUDE_KEY = "sk-ant-0123456789"
PIXEL = base64.b64encode(b"not really a picture").decode()
WEATHER = Tool("weather", "Says what the weather is.", {"type": "object", "properties": {"city": {"type": "string"}}})
CALL: JsonObject = {"city": "Köln"}

Ending = Literal["whole", "cut", "stall", "bad", "error", "huge", "wordless"]


@dataclass(frozen=True)
class Scene:
    """What the upstream says, and how that ends."""

    words: Sequence[str] = ("Hel", "lo, ", "Wörld")
    calls: bool = False
    """It calls the tool `weather`."""
    limit: bool = False
    """It stops because the answer is long enough."""
    ending: Ending = "whole"


@dataclass(frozen=True)
class Asked:
    """What the upstream was asked."""

    model: str | None
    system: str
    user: str
    """All that the user says."""
    body: JsonObject = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class Stand(Protocol):
    backend: Backend
    takes: frozenset[str]
    """Of `tools` and `images`."""

    @property
    def default(self) -> str | None:
        """The model that is asked for where nobody says which."""

    def plays(self, scene: Scene) -> None: ...

    def refuses(self, status: int) -> None:
        """From here on it answers with an error of this status."""

    async def asked(self) -> Asked: ...

    async def left(self) -> None:
        """Returns when the work there has ended because its reader went."""

    async def away(self) -> Backend:
        """The same backend where nobody answers."""


def ask(text: str = f"What is {PRIVATE}?") -> Ask:
    return Ask((Message("user", (Text(text),)),))


def picture() -> Ask:
    return Ask((Message("user", (Image("image/png", PIXEL), Text("What is this?"))),))


async def pieces(backend: Backend, asked: Ask) -> list[Piece]:
    return [piece async for piece in backend.answer(asked, backend.endpoints[0])]


async def deltas(backend: Backend, asked: Ask) -> list[Delta]:
    return [piece.delta for piece in await pieces(backend, asked) if piece.delta is not None]


def text(said: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in said if isinstance(delta, TextDelta))


# Over HTTP ----------------------------------------------------------------------------------------


class Dialect(Protocol):
    """What one kind of server says on the wire."""

    kind: str
    models: str
    """The path of its list of models."""

    def listed(self) -> JsonValue: ...

    def frames(self, scene: Scene) -> list[bytes]:
        """The whole answer."""

    def marks(self) -> int:
        """Frames at the end that say that it is whole."""

    def broken(self) -> bytes:
        """An error in the middle of a stream, which quotes the question."""

    def error(self, status: int) -> JsonValue: ...

    def read(self, body: JsonObject, headers: Mapping[str, str]) -> Asked: ...


class OpenAIDialect:
    kind = "text/event-stream"

    def __init__(self, models: str = "/v1/models") -> None:
        self.models = models

    def listed(self) -> JsonValue:
        return {"object": "list", "data": [{"id": "first-model"}, {"id": "second-model"}]}

    def frames(self, scene: Scene) -> list[bytes]:
        said: list[JsonObject] = [{"role": "assistant", "content": ""}]
        said += [{"content": word} for word in scene.words]
        if scene.calls:
            arguments = json.dumps(CALL)
            said.append({"tool_calls": [self._call(id="call_1", name="weather", arguments="")]})
            said += [{"tool_calls": [self._call(arguments=part)]} for part in (arguments[:5], arguments[5:])]
        reason = "tool_calls" if scene.calls else "length" if scene.limit else "stop"
        chunks = [self._chunk([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in said]
        chunks.append(self._chunk([{"index": 0, "delta": {}, "finish_reason": reason}]))
        chunks.append(self._chunk([]) | {"usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}})
        return [*(sse(chunk) for chunk in chunks), b"data: [DONE]\n\n"]

    def marks(self) -> int:
        return 3

    def broken(self) -> bytes:
        return sse({"error": {"message": f"{PRIVATE} is odd", "type": "server_error", "code": 500}})

    def error(self, status: int) -> JsonValue:
        return {"error": {"message": f"{PRIVATE} is odd", "type": "upstream_error", "code": None}}

    def read(self, body: JsonObject, headers: Mapping[str, str]) -> Asked:
        return Asked(str(body["model"]), words(body, "system"), words(body, "user"), body, headers)

    def _chunk(self, choices: list[JsonValue]) -> JsonObject:
        return {"id": "c1", "object": "chat.completion.chunk", "model": "first-model", "choices": choices}

    def _call(self, *, arguments: str, id: str | None = None, name: str | None = None) -> JsonValue:
        function: JsonObject = {"arguments": arguments, "name": name} if name else {"arguments": arguments}
        return (
            {"index": 0, "function": function, "id": id, "type": "function"}
            if id
            else {"index": 0, "function": function}
        )


class AnthropicDialect:
    kind = "text/event-stream"
    models = "/v1/models"

    def listed(self) -> JsonValue:
        return {"data": [{"id": "first-model", "type": "model"}, {"id": "second-model", "type": "model"}]}

    def frames(self, scene: Scene) -> list[bytes]:
        return [sse(event, name=str(event["type"])) for event in self.events(scene)]

    def events(self, scene: Scene) -> list[JsonObject]:
        usage: JsonObject = {"input_tokens": 5, "cache_read_input_tokens": 6, "output_tokens": 1}
        begin: JsonObject = {"id": "m1", "role": "assistant", "model": "first-model", "content": [], "usage": usage}
        events: list[JsonObject] = [{"type": "message_start", "message": begin}, {"type": "ping"}]
        if scene.words:
            said: list[JsonValue] = [{"type": "text_delta", "text": word} for word in scene.words]
            events += self._block(0, {"type": "text", "text": ""}, said)
        if scene.calls:
            arguments = json.dumps(CALL)
            parts = ("", arguments[:5], arguments[5:])
            said = [{"type": "input_json_delta", "partial_json": part} for part in parts]
            events += self._block(1, {"type": "tool_use", "id": "call_1", "name": "weather", "input": {}}, said)
        reason = "tool_use" if scene.calls else "max_tokens" if scene.limit else "end_turn"
        end: JsonObject = {"stop_reason": reason, "stop_sequence": None}
        events.append({"type": "message_delta", "delta": end, "usage": {"output_tokens": 7}})
        return [*events, {"type": "message_stop"}]

    def marks(self) -> int:
        return 2

    def broken(self) -> bytes:
        error: JsonValue = {"type": "overloaded_error", "message": f"{PRIVATE} is odd"}
        return sse({"type": "error", "error": error}, name="error")

    def error(self, status: int) -> JsonValue:
        return {"type": "error", "error": {"type": "upstream_error", "message": f"{PRIVATE} is odd"}}

    def read(self, body: JsonObject, headers: Mapping[str, str]) -> Asked:
        return Asked(str(body["model"]), str(body.get("system", "")), words(body, "user"), body, headers)

    def _block(self, index: int, start: JsonObject, said: list[JsonValue]) -> list[JsonObject]:
        return [
            {"type": "content_block_start", "index": index, "content_block": start},
            *({"type": "content_block_delta", "index": index, "delta": delta} for delta in said),
            {"type": "content_block_stop", "index": index},
        ]


class OllamaDialect:
    kind = NDJSON
    models = "/api/tags"

    def listed(self) -> JsonValue:
        embeds: JsonValue = {"name": "nomic-embed-text", "details": {"family": "nomic-bert"}}
        return {"models": [embeds, {"name": "first-model", "details": {"family": "llama"}}, {"name": "second-model"}]}

    def frames(self, scene: Scene) -> list[bytes]:
        said: list[JsonObject] = [{"role": "assistant", "content": word} for word in scene.words]
        if scene.calls:
            call: JsonValue = {"function": {"name": "weather", "arguments": CALL}}
            said.append({"role": "assistant", "content": "", "tool_calls": [call]})
        lines: list[JsonObject] = [{"model": "first-model", "message": one, "done": False} for one in said]
        end: JsonObject = {"done": True, "done_reason": "length" if scene.limit else "stop"}
        counts: JsonObject = {"prompt_eval_count": 11, "eval_count": 7}
        last: JsonObject = {"model": "first-model", "message": {"role": "assistant", "content": ""}, **end, **counts}
        return [ndjson(line) for line in (*lines, last)]

    def marks(self) -> int:
        return 1

    def broken(self) -> bytes:
        return ndjson({"error": f"{PRIVATE} is odd"})

    def error(self, status: int) -> JsonValue:
        return {"error": f"{PRIVATE} is odd"}

    def read(self, body: JsonObject, headers: Mapping[str, str]) -> Asked:
        return Asked(str(body["model"]), words(body, "system"), words(body, "user"), body, headers)


def words(body: JsonObject, role: str) -> str:
    """All that a role says in a request."""
    messages = body["messages"]
    assert isinstance(messages, list)
    said = list[str]()
    for message in messages:
        assert isinstance(message, dict)
        if message["role"] == role:
            content = message["content"]
            parts = content if isinstance(content, list) else [content]
            said += [str(part.get("text", "")) if isinstance(part, dict) else str(part) for part in parts]
    return "\n".join(said)


class HttpStand:
    """A server of one dialect, and the backend that asks it."""

    default = "first-model"

    def __init__(
        self, name: str, upstream: Upstream, dialect: Dialect, backend: Backend, takes: frozenset[str]
    ) -> None:
        self.name = name
        self.upstream = upstream
        self.dialect = dialect
        self.backend = backend
        self.takes = takes
        upstream.route(f"GET {dialect.models}", respond(200, dialect.listed()))
        self.plays(Scene())

    def plays(self, scene: Scene) -> None:
        self.upstream.play(self._script(scene))

    def refuses(self, status: int) -> None:
        self.upstream.play(respond(status, self.dialect.error(status), {"Retry-After": "7"}))

    async def asked(self) -> Asked:
        seen = await self.upstream.request()
        body = seen.json()
        assert isinstance(body, dict)
        return self.dialect.read(body, seen.headers)

    async def left(self) -> None:
        seen = await self.upstream.request()
        await asyncio.wait_for(seen.left.wait(), 15)

    async def away(self) -> Backend:
        with refusing() as url:
            backend = http_backend(self.name, url, model="some-model")
            await backend.open()
        return backend

    def _script(self, scene: Scene) -> Script:
        frames, kind = self.dialect.frames(scene), self.dialect.kind
        begun = frames[: -self.dialect.marks()]
        match scene.ending:
            case "whole":
                return stream(frames, kind=kind)
            case "cut":
                return stream(begun, kind=kind)
            case "wordless":
                return (Head(200, {"Content-Type": kind}), Stall())
            case "stall":
                return stream(begun, kind=kind, then=Stall())
            case "bad":
                end = frames[-1][-2:]
                return stream([*begun, (b"data: " if kind != NDJSON else b"") + b'{"half": ' + end], kind=kind)
            case "error":
                return stream([*begun, self.dialect.broken()], kind=kind)
            case "huge":
                return (Head(200, {"Content-Type": kind}), *(Frame(b"x" * 300_000) for _ in range(4)), Cut())


def http_backend(name: str, url: str, *, model: str = "") -> Backend:
    match name:
        case "openai":
            return openai(
                GatewaySettings(openai_urls=(f"{url}/v1",), openai_api_key=SecretStr(OPENAI_KEY), openai_model=model)
            )
        case "anamnesis-gpt":
            return anamnesis_gpt(GatewaySettings(TRAINER_URLS=f"gpu={url}", service_key=SecretStr(SERVICE_KEY)))
        case "claude":
            return Claude(
                GatewaySettings(claude_url=HttpUrl(url), claude_api_key=SecretStr(CLAUDE_KEY), claude_model=model)
            )
        case "ollama":
            return Ollama(GatewaySettings(ollama_url=HttpUrl(url), ollama_model=model))
    raise AssertionError(name)


HTTP: Mapping[str, tuple[Dialect, frozenset[str]]] = {
    "openai": (OpenAIDialect(), frozenset({"tools", "images"})),
    "anamnesis-gpt": (OpenAIDialect(), frozenset()),
    "claude": (AnthropicDialect(), frozenset({"tools", "images"})),
    "ollama": (OllamaDialect(), frozenset({"tools", "images"})),
}


# The program --------------------------------------------------------------------------------------

PROGRAM = """#!{python} -IS
import json, os, signal, subprocess, sys, time

here = os.path.dirname(os.path.abspath(__file__))
with open(here + "/scene.json") as file:
    scene = json.load(file)
if scene["deaf"]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
arguments = sys.argv[1:]
system = arguments[arguments.index("--system-prompt-file") + 1]
seen = dict(
    arguments=arguments, environment=dict(os.environ), files=os.listdir("."), directory=os.getcwd(), pid=os.getpid(),
    system=open(system).read(), stdin=sys.stdin.read(),
    child=subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL).pid,
)
with open(here + "/seen.new", "w") as file:
    json.dump(seen, file)
os.rename(here + "/seen.new", here + "/seen.json")
for line in scene["lines"]:
    sys.stdout.write(line)
    sys.stdout.flush()
sys.stderr.write(scene["complaint"])
sys.stderr.flush()
if scene["stalls"]:
    time.sleep(600)
sys.exit(scene["code"])
"""


class CliStand:
    """A program that behaves as the `claude` binary does, starts a child of its own, and writes down what it got."""

    takes: frozenset[str] = frozenset()
    default = None

    def __init__(self, directory: Path, settings: GatewaySettings | None = None) -> None:
        self.directory = directory
        self.program = directory / "claude"
        self.program.write_text(PROGRAM.format(python=sys.executable))
        self.program.chmod(0o755)
        self.environment = {**os.environ, "ANAMNESIS_SERVICE_KEY": SERVICE_KEY, "ANTHROPIC_API_KEY": CLAUDE_KEY}
        self.backend: Backend = ClaudeCli(settings or GatewaySettings(claude_cli=str(self.program)), self.environment)
        self.plays(Scene())

    def plays(self, scene: Scene) -> None:
        events = [json.dumps({"type": "stream_event", "event": one}) for one in AnthropicDialect().events(scene)]
        usage: JsonObject = {"input_tokens": 5, "cache_read_input_tokens": 6, "output_tokens": 7}
        result: JsonObject = {"type": "result", "subtype": "success", "is_error": False, "usage": usage}
        whole = [INIT, *events, json.dumps({"type": "assistant", "message": {}}), json.dumps(result)]
        begun = [INIT, *events[:-2]]
        match scene.ending:
            case "whole":
                self.writes(whole)
            case "cut":
                self.writes(begun)
            case "wordless":
                self.writes([INIT], stalls=True)
            case "stall":
                self.writes(begun, stalls=True)
            case "bad":
                self.writes([*begun, '{"half": '])
            case "error":
                failed: JsonObject = {"type": "result", "subtype": "error_during_execution", "is_error": True}
                self.writes([*begun, json.dumps(failed | {"result": f"{PRIVATE} is odd"})])
            case "huge":
                self.writes(["x" * 1_200_000])

    def refuses(self, status: int) -> None:
        failed: JsonObject = {"type": "result", "subtype": "success", "is_error": True, "api_error_status": status}
        self.writes([INIT, json.dumps(failed | {"result": f"{PRIVATE} is odd"})], code=1)

    def writes(
        self, lines: Sequence[str], *, stalls: bool = False, code: int = 0, complaint: str = "", deaf: bool = False
    ) -> None:
        scene = {"lines": [f"{line}\n" for line in lines], "stalls": stalls, "code": code, "deaf": deaf}
        (self.directory / "scene.json").write_text(json.dumps(scene | {"complaint": complaint}))

    async def seen(self) -> JsonObject:
        file = self.directory / "seen.json"
        await until(file.exists)
        value = json.loads(file.read_text())
        assert isinstance(value, dict)
        return value

    async def asked(self) -> Asked:
        seen = await self.seen()
        arguments = seen["arguments"]
        assert isinstance(arguments, list)
        model = str(arguments[arguments.index("--model") + 1]) if "--model" in arguments else None
        return Asked(model, str(seen["system"]), str(seen["stdin"]))

    async def left(self) -> None:
        seen = await self.seen()
        await until(lambda: not any(alive(seen[name]) for name in ("pid", "child")))

    async def away(self) -> Backend:
        return ClaudeCli(GatewaySettings(claude_cli=str(self.directory / "nothing")), self.environment)


INIT = json.dumps({"type": "system", "subtype": "init", "tools": [], "mcp_servers": [], "model": "first-model"})


def alive(pid: JsonValue) -> bool:
    assert isinstance(pid, int)
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(true: "Condition", seconds: float = 15) -> None:
    """Returns when something is true that nobody tells of."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.01)


class Condition(Protocol):
    def __call__(self) -> bool: ...


@asynccontextmanager
async def stand_for(name: str, directory: Path) -> AsyncIterator[Stand]:
    if name == "claude-cli":
        program = CliStand(directory)
        yield program
        await program.backend.close()
        return
    async with Upstream() as upstream:
        dialect, takes = HTTP[name]
        server = HttpStand(name, upstream, dialect, http_backend(name, upstream.url), takes)
        await server.backend.open()
        yield server
        await server.backend.close()
