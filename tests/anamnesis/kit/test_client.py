"""The client between services: what it tells when a service is away."""

import pytest
from pydantic import BaseModel

from anamnesis.contracts.base import JsonObject
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError, Unavailable, UpstreamFailed
from tests.services.gateway.upstreams import Stall, Upstream, refusing, respond


class Answer(BaseModel):
    number: int


@pytest.mark.parametrize("fault", ["away", "late", "nonsense"])
async def test_an_address_is_told_without_its_password(fault: str) -> None:
    """Errors name the place that was asked, so that it can be found, and never who may use it."""
    async with Upstream(respond(200, {"wrong": 1})) as upstream:
        if fault == "late":
            upstream.play((Stall(),))
        with refusing() as away:
            place = away if fault == "away" else upstream.url
            async with ServiceClient(place.replace("//", "//carla:hunter2secret@"), None) as client:
                with pytest.raises(AnamnesisError) as failed:
                    await client.request("POST", "/x", Answer, deadline=0.5)
    assert place in failed.value.message
    assert "hunter2secret" not in failed.value.message


async def test_an_error_in_another_envelope_is_told() -> None:
    """What is answered below `/v1` says why too, in the envelope of other houses; what is no envelope says nothing."""
    envelope: JsonObject = {
        "error": {"message": "ollama: not running", "type": "server_error", "param": None, "code": "unavailable"}
    }
    async with Upstream(respond(503, envelope)) as upstream, ServiceClient(upstream.url, None) as client:
        with pytest.raises(Unavailable, match="ollama: not running"):
            await client.request("POST", "/v1/x", Answer)
        upstream.play(respond(502, {"error": "no"}))
        with pytest.raises(UpstreamFailed, match="without saying why"):
            await client.request("POST", "/v1/x", Answer)
