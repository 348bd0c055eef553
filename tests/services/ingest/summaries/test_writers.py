"""A model behind the real gateway: what it is asked, what it answers, and how it is told that it does not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest
from pydantic import HttpUrl, JsonValue, SecretStr

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.summaries import Summarising
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError, BadRequest, UpstreamFailed
from services.gateway.settings import GatewaySettings
from services.ingest.summaries.asking import SYSTEM
from services.ingest.summaries.writers import GatewayWriter
from tests.services.gateway.conftest import SERVICE_KEY, Behind, behind, gateway
from tests.services.gateway.upstreams import Script, Upstream, respond, sse, stream

__all__ = ["behind"]
MODELS: JsonObject = {"object": "list", "data": [{"id": "small", "object": "model"}]}
THEIRS = {"GET /v1/models": respond(200, MODELS)}


def says(text: str, reason: Literal["stop", "length"] = "stop") -> Script:
    def chunk(delta: JsonValue, ended: str | None = None) -> bytes:
        return sse({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "small",
                    "choices": [{"index": 0, "delta": delta, "finish_reason": ended}]})  # fmt: skip

    return stream([chunk({"role": "assistant", "content": text}), chunk({}, reason), b"data: [DONE]\n\n"])


@asynccontextmanager
async def writer(behind: Behind, upstream: Upstream, by: Summarising, rate: str) -> AsyncIterator[GatewayWriter]:
    settings = GatewaySettings(
        memory_url=HttpUrl(behind.url),
        ingest_url=HttpUrl(behind.url),
        service_key=SecretStr(SERVICE_KEY),
        openai_urls=(f"{upstream.url}/v1",),
        gateway_rate=rate,
    )
    async with gateway(settings) as url, ServiceClient(url, SecretStr(SERVICE_KEY)) as client:
        yield GatewayWriter(client, by)


async def test_a_model_is_asked_through_the_gateway(behind: Behind) -> None:
    """By backend and model, with nothing recalled, by the key between services, which no rate holds up."""
    by = Summarising(backend="openai", model="small")
    async with (
        Upstream(says("[[1]] One of them.\n[[2]] Another."), routes=THEIRS) as upstream,
        writer(behind, upstream, by, "2/hour") as asks,
    ):
        for _ in range(4):
            assert await asks.write(["User: one", "User: two"]) == ["One of them.", "Another."]
        seen = upstream.seen[0].json()
    assert isinstance(seen, dict)
    assert seen["model"] == "small"
    assert seen["messages"] == [
        {"role": "system", "content": SYSTEM},
        {
            "role": "user",
            "content": '<exchange number="1">\nUser: one\n</exchange>\n\n<exchange number="2">\nUser: two\n</exchange>',
        },
    ]
    assert not [one for one in behind.seen if one.path == "/api/episodes/search"]


async def test_what_was_cut_off_is_not_kept(behind: Behind) -> None:
    """Where the model's answer ended at its length, the last summary may be half a one."""
    by = Summarising(backend="openai")
    async with (
        Upstream(says("[[1]] One of them.\n[[2]] Ano", "length"), routes=THEIRS) as upstream,
        writer(behind, upstream, by, "100/minute") as asks,
    ):
        assert await asks.write(["User: one", "User: two"]) == ["One of them.", None]


async def test_why_a_model_does_not_answer_is_told(behind: Behind) -> None:
    """One that is not configured, one that is away, and one that says nothing: our errors, with the gateway's words."""
    async with Upstream(respond(500, {"error": {"message": "out of memory"}}), routes=THEIRS) as upstream:
        async with writer(behind, upstream, Summarising(backend="ollama"), "100/minute") as asks:
            with pytest.raises(AnamnesisError, match="ollama") as failed:
                await asks.write(["User: one"])
            assert not isinstance(failed.value, BadRequest)
        async with writer(behind, upstream, Summarising(backend="openai"), "100/minute") as asks:
            with pytest.raises(AnamnesisError, match="openai"):
                await asks.write(["User: one"])
            upstream.play(says(""))
            with pytest.raises((UpstreamFailed, AnamnesisError)):
                await asks.write(["User: one"])
