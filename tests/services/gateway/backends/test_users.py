"""Backends behind a proxy that wants a user and a password, which stand in the address."""

from base64 import b64encode

import pytest
from pydantic import HttpUrl, SecretStr

from services.gateway.backends.base import Ask, Backend, BackendFailure, Message, Text
from services.gateway.backends.choose import choose
from services.gateway.settings import GatewaySettings

from ..upstreams import Upstream, respond

KEY = "a-key-of-the-backend"
BASIC = "Basic " + b64encode(b"carla:hunter2secret").decode()
ASK = Ask(messages=(Message("user", (Text("hello"),)),), model="m")


def backend(name: str, url: str) -> Backend:
    place = url.replace("http://", "http://carla:hunter2secret@")
    settings = GatewaySettings(
        chat_backends=name,
        service_key=SecretStr(KEY),
        TRAINER_URLS=place,
        openai_urls=(place,),
        openai_api_key=SecretStr(KEY),
        claude_url=HttpUrl(place),
        claude_api_key=SecretStr(KEY),
        ollama_url=HttpUrl(place),
    )
    [one] = choose(settings, {})
    return one


@pytest.mark.parametrize("name", ["openai", "anamnesis-gpt", "claude", "ollama"])
async def test_the_user_of_an_address_and_a_key(name: str) -> None:
    """The proxy gets its user, the backend its key beside it, and a failure tells neither."""
    async with Upstream(respond(503)) as upstream:
        one = backend(name, upstream.url)
        await one.open()
        try:
            [endpoint] = one.endpoints
            with pytest.raises(BackendFailure) as failed:
                await anext(one.answer(ASK, endpoint))
            assert failed.value.status == 503
            with pytest.raises(BackendFailure) as unlisted:
                await one.models()
        finally:
            await one.close()
        for seen in upstream.seen:
            assert seen.headers["authorization"] == BASIC
            assert seen.headers.get("x-api-key") == (None if name == "ollama" else KEY)
    for told in (failed.value.reason, unlisted.value.reason, endpoint.name):
        assert "hunter2secret" not in told
        assert KEY not in told
