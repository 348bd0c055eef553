"""Who may come in, and what the services make of nonsense, over their real ports."""

import contextlib
import json
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from tests.e2e.conftest import KEY, SERVICES, Stack

OPEN = {("GET", "/health"), ("GET", "/ready")}
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.mark.parametrize("service", SERVICES)
def test_every_route_asks_for_a_key(stack: Stack, service: str) -> None:
    """Each route of each service answers 401 without a key and with a wrong one, but for the open two."""
    with stack.client(service) as client:
        paths = client.get("/openapi.json").json()["paths"]
    if service == "gateway":  # the front door has the paths of those behind it
        for behind in ("memory", "ingest"):
            with stack.client(behind) as client:
                paths |= client.get("/openapi.json").json()["paths"]
    walked = 0
    with httpx.Client(base_url=stack.url(service), trust_env=False) as stranger:
        for path, operations in paths.items():
            address = path.replace("{", "").replace("}", "")
            for method in METHODS & operations.keys():
                if (method.upper(), path) in OPEN:
                    continue
                for headers in ({}, {"X-API-Key": "anm_wrong"}, {"Authorization": "Bearer x"}):
                    response = stranger.request(method, address, headers=headers)
                    assert response.status_code == 401, (method, path)
                walked += 1
    assert walked > (2 if service == "ingest" else 20)


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
