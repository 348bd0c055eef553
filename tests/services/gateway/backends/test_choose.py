"""Which backends there are, in which order, and what people are told of them."""

import asyncio
from collections.abc import Mapping

import pytest
from pydantic import HttpUrl, SecretStr

from anamnesis.contracts.chat import BackendState, BackendStates
from anamnesis.kit.settings import load
from services.gateway.backends.choose import choose
from services.gateway.backends.endpoints import endpoints
from services.gateway.backends.states import States
from services.gateway.settings import GatewaySettings

from ..conftest import SERVICE_KEY, Behind, caller, gateway, settings_for
from ..upstreams import Stall, Upstream, refusing, respond

NAMES = ("anamnesis-gpt", "openai", "ollama", "claude", "claude-cli")
LISTED: Mapping[str, object] = {"data": [{"id": "first-model"}, {"id": "second-model"}]}


async def states(settings: GatewaySettings) -> dict[str, BackendState]:
    backends = choose(settings, {})
    for backend in backends:
        await backend.open()
    try:
        return {state.name: state for state in (await States(backends).now()).backends}
    finally:
        for backend in backends:
            await backend.close()


def test_the_order_is_the_settings() -> None:
    """The backends come in the order of the settings, and those that are not named are not there."""
    assert tuple(backend.name for backend in choose(GatewaySettings(), {})) == NAMES
    some = GatewaySettings(chat_backends=("claude", "ollama"))
    assert [backend.name for backend in choose(some, {})] == ["claude", "ollama"]


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("ANAMNESIS_CHAT_BACKENDS", "ollama, gpt", "'anamnesis-gpt', 'openai', 'ollama', 'claude' or 'claude-cli'"),
        ("ANAMNESIS_CHAT_BACKENDS", "ollama,ollama", "name each backend once"),
        ("ANAMNESIS_OPENAI_URLS", "host:8000/v1", "expected http://HOST:PORT"),
        ("TRAINER_URLS", "gpu=", "expected http://HOST:PORT"),
    ],
)
def test_a_bad_value_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str, told: str
) -> None:
    """A name or an address that means nothing stops start-up, with what was expected."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit):
        load(GatewaySettings)
    assert told in capsys.readouterr().err


def test_endpoints_have_names() -> None:
    """An endpoint is called by its label, else by its host and port, never by what may be secret in its URL."""
    given = (
        "gpu=http://10.0.0.1:3011/",
        "http://user:secret@host:8000/v1",
        "https://api.example.org/v1",
        "http://[::1]:1",
    )
    named = endpoints((*given, "http://host:8000/v2"))
    assert [one.name for one in named] == ["gpu", "host:8000", "api.example.org", "[::1]:1", "host:8000-2"]
    assert named[0].url == "http://10.0.0.1:3011"
    assert named[2].url == "https://api.example.org/v1"


def test_what_is_not_configured() -> None:
    """Every backend that is not configured says in one line what to set."""
    for backend in choose(GatewaySettings(), {}):
        assert backend.missing is not None
        assert backend.missing.startswith("set ")
        assert "\n" not in backend.missing


async def test_what_people_are_told() -> None:
    """Each backend is shown with its models, or with what is missing or wrong, in one line, without any key."""
    async with Upstream() as upstream:
        upstream.route("GET /v1/models", respond(200, {"data": [{"id": "first-model"}, {"id": "second-model"}]}))
        with refusing() as nobody:
            known = await states(
                GatewaySettings(
                    TRAINER_URLS=f"gpu={upstream.url},cpu={nobody}",
                    openai_urls=(f"{nobody}/v1",),
                    openai_api_key=SecretStr("sk-secret-0123456789"),
                    claude_url=HttpUrl(upstream.url),
                    claude_api_key=SecretStr("sk-ant-secret-0123456789"),
                    claude_model="my-model",
                )
            )
    assert tuple(known) == NAMES
    trainer = known["anamnesis-gpt"]
    assert (trainer.configured, trainer.reason, trainer.models) == (True, None, ("first-model", "second-model"))
    assert trainer.endpoints == ("gpu", "cpu")
    assert known["openai"].configured
    assert "connection refused" in str(known["openai"].reason)
    assert known["claude"].models == ("my-model", "first-model", "second-model")
    assert not known["ollama"].configured
    assert "ANAMNESIS_OLLAMA_URL" in str(known["ollama"].reason)
    assert "secret" not in str(known)


async def test_who_does_not_answer_holds_up_nobody() -> None:
    """A backend that says nothing is reported as such, after a moment, beside those that answer."""
    async with Upstream() as silent, Upstream() as upstream:
        silent.route("GET /api/tags", (Stall(),))
        upstream.route("GET /v1/models", respond(200, {"data": [{"id": "first-model"}]}))
        settings = GatewaySettings(openai_urls=(f"{upstream.url}/v1",), ollama_url=HttpUrl(silent.url))
        async with asyncio.timeout(10):
            known = await states(settings)
    assert "did not answer within" in str(known["ollama"].reason)
    assert known["openai"].reason is None


async def test_many_who_look_cost_one_question() -> None:
    """However many people look at once, each backend is asked once."""
    async with Upstream() as upstream:
        upstream.route("GET /v1/models", respond(200, {"data": []}))
        (backend,) = choose(GatewaySettings(chat_backends=("openai",), openai_urls=(f"{upstream.url}/v1",)), {})
        await backend.open()
        shown = States([backend])
        await asyncio.gather(*(shown.now() for _ in range(20)))
        await backend.close()
    assert len(upstream.asides) == 1


async def test_the_path(behind: Behind) -> None:
    """`GET /api/backends` needs a key, and answers with the contract."""
    settings = settings_for(behind.url)
    async with gateway(settings) as url:
        async with caller(url, None) as nobody, nobody.get("/api/backends") as answer:
            assert answer.status == 401
        async with caller(url) as somebody, somebody.get("/api/backends") as answer:
            assert answer.status == 200
            body = await answer.read()
    assert [state.name for state in BackendStates.model_validate_json(body).backends] == list(NAMES)
    assert SERVICE_KEY.encode() not in body
