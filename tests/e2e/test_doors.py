"""Who may come in, and what the services make of nonsense, over their real ports."""

import contextlib

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
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
        operation = found.ok()
        if operation.path == "/api/episodes/import":  # JSON lines, which it cannot generate: test_transfer.py does
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @FUZZ
            @given(case=operation.as_strategy(generation_mode=mode))
            def survives(case: schemathesis.Case) -> None:
                response = case.call(headers=headers, timeout=60)
                assert response.status_code < 500 or response.status_code in (503, 504), (
                    response.status_code,
                    response.text,
                    case.as_curl_command(),
                )

            with contextlib.suppress(Unsatisfiable):  # an operation without input has no negative case
                survives()
        operations += 1
    return operations


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_survives_any_input(stack: Stack) -> None:
    """No endpoint of memory answers a generated request, valid or not, with a 500."""
    assert _fuzz(stack, "memory") > 25
    assert "unhandled" not in stack.log("memory")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ingest_survives_any_input(stack: Stack) -> None:
    """No endpoint of ingest answers a generated request, valid or not, with a 500."""
    assert _fuzz(stack, "ingest") >= 4
    assert "unhandled" not in stack.log("ingest")
