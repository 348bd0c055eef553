"""Who may come in, and what the services make of nonsense, over their real ports."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi.routing import iter_route_contexts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from anamnesis.kit.auth import READING_PATHS, new_key
from services.gateway import app as gateway
from services.gateway.settings import GatewaySettings
from services.ingest import app as ingest
from services.ingest.settings import IngestSettings
from services.memory import app as memory
from services.memory.settings import MemorySettings
from tests.e2e.conftest import KEY, SERVICES, Stack

OPEN = {("GET", "/health"), ("GET", "/ready")}
OPEN_AT_THE_GATEWAY = OPEN | {
    ("GET", "/login"),
    ("POST", "/login"),
    ("GET", "/static/login.css"),
    ("GET", "/static/login.js"),
}
READING = {"memory": READING_PATHS, "ingest": READING_PATHS, "gateway": gateway.READING}
STRANGERS: tuple[dict[str, str], ...] = (
    {},
    {"X-API-Key": "anm_wrong"},
    {"Authorization": "Bearer x"},
    {"Authorization": "Basic eDp4"},
)
ANY = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def _routes(service: str, data: Path) -> set[tuple[str, str]]:
    """Every method and path that a service has, those of the services behind it included for the front door."""
    apps = {
        "memory": memory.build(MemorySettings(data_dir=data)),
        "ingest": ingest.build(IngestSettings(data_dir=data)),
        "gateway": gateway.build(GatewaySettings()),
    }
    found = set[tuple[str, str]]()
    for name in SERVICES if service == "gateway" else (service,):
        for route in iter_route_contexts(apps[name].routes):
            assert route.path is not None, "a route that this walk does not see"
            for method in route.methods or ANY:  # what is mounted takes any
                found.add((method, re.sub(r"\{[^}]*\}", "x", route.path)))
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_every_route_asks_for_a_key(stack: Stack, tmp_path: Path, service: str) -> None:
    """Each route of each service answers 401 without a key and with a wrong one, but for the few that are open."""
    opened = OPEN_AT_THE_GATEWAY if service == "gateway" else OPEN
    routes = _routes(service, tmp_path)
    assert opened <= routes
    closed = {(method, path) for method, path in routes if ("GET" if method == "HEAD" else method, path) not in opened}
    assert len(closed) > (4 if service == "ingest" else 25)
    cookie = {"Cookie": f"anamnesis_session={new_key()}"}
    with httpx.Client(base_url=stack.url(service), trust_env=False) as stranger:
        for method, path in sorted(closed):
            for headers in (
                {},
                {"X-API-Key": "anm_wrong"},
                {"Authorization": "Bearer x"},
                {"Authorization": "Basic eDp4"},
            ):
                assert stranger.request(method, path, headers=headers).status_code == 401, (method, path)
            assert stranger.request(method, path, headers=cookie).status_code in (401, 403), (method, path)
        for method, path in opened:
            if method == "GET":
                assert stranger.get(path).status_code == 200, path
        assert stranger.options("/health").status_code == 401


@pytest.mark.parametrize("service", SERVICES)
def test_a_reader_writes_nowhere(stack: Stack, tmp_path: Path, service: str) -> None:
    """With a key of the scope `read`, each route that is not for reading answers 403."""
    with stack.client() as admin:
        made = admin.post("/api/keys", json={"name": "reader", "scope": "read"})
        assert made.status_code == 201, made.text
    opened = OPEN_AT_THE_GATEWAY if service == "gateway" else OPEN
    writing = {
        (method, path)
        for method, path in _routes(service, tmp_path)
        if method not in ("GET", "HEAD") and path not in READING[service] and (method, path) not in opened
    }
    assert writing
    headers = {"X-API-Key": made.json()["key"]}
    with httpx.Client(base_url=stack.url(service), headers=headers, trust_env=False, timeout=60) as reader:
        for method, path in sorted(writing):
            assert reader.request(method, path).status_code == 403, (method, path)
        assert reader.get("/openapi.json").status_code == 200
        if service != "ingest":
            assert reader.get("/api/keys").status_code == 403
            assert reader.get("/api/episodes").status_code == 200
    with stack.client() as admin:
        assert admin.delete(f"/api/keys/{made.json()['key_id']}").status_code == 200
    with httpx.Client(base_url=stack.url(), headers=headers, trust_env=False, timeout=60) as reader:
        assert reader.get("/api/episodes").status_code == 401


FUZZ = settings(
    max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)


def _fuzz(stack: Stack, service: str) -> int:
    """Throw generated requests at every operation of a service, valid ones and others; how many operations."""
    headers = {"X-API-Key": KEY}
    schema = schemathesis.openapi.from_url(f"{stack.url(service)}/openapi.json", headers=headers)
    operations = 0
    for found in schema.get_all_operations():
        operation = found.ok()  # type: ignore[union-attr] # an invalid schema fails here, as it should
        if operation.path == "/api/episodes/import":  # JSON lines, which it cannot generate: see below
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @FUZZ
            @given(case=operation.as_strategy(generation_mode=mode))
            def survives(case: schemathesis.Case[Any]) -> None:
                response = case.call(headers=headers, timeout=60)
                # Requests come one by one, so no bound on what waits is an excuse for a 429 either.
                failed = response.status_code >= 500 or response.status_code == 429
                assert not failed, (response.status_code, response.text, case.as_curl_command())

            with contextlib.suppress(Unsatisfiable):  # an operation without input has no negative case
                survives()
        operations += 1
    return operations


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_survives_any_input(stack: Stack) -> None:
    """No endpoint of memory answers a generated request, valid or not, by failing or as if it were away."""
    assert _fuzz(stack, "memory") > 25
    assert "unhandled" not in stack.log("memory")


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_NOTE = {"instance": "here", "project": "lines", "summary": "A note.", "timestamp": "2026-01-01T00:00:00Z"}
_LINES = st.binary(max_size=60) | st.builds(
    lambda name, value: json.dumps({**_NOTE, name: value}).encode(errors="surrogatepass"),
    st.sampled_from([*_NOTE, "episode_id", "tags", "source", "trust", "raw_exchange", "content_hash", "ingested_at"]),
    _ANYTHING,
)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_import_survives_any_lines(stack: Stack) -> None:
    """Whatever the lines hold, every one that is not blank is counted once, and none is answered with a 500."""
    with stack.client("memory") as client:

        @settings(FUZZ, max_examples=60)
        @given(lines=st.lists(_LINES, max_size=6))
        def survives(lines: list[bytes]) -> None:
            sent = b"\n".join(lines)
            response = client.post("/api/episodes/import", content=sent)
            assert response.status_code == 200, response.text
            counted = sum(value for value in response.json().values() if isinstance(value, int))
            assert counted == sum(1 for line in sent.split(b"\n") if line.strip())

        survives()
    assert "unhandled" not in stack.log("memory")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ingest_survives_any_input(stack: Stack) -> None:
    """No endpoint of ingest answers a generated request, valid or not, by failing or as if it were away."""
    assert _fuzz(stack, "ingest") >= 4
    assert "unhandled" not in stack.log("ingest")
