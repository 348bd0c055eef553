"""Who may come in, and what the services make of nonsense, over their real ports."""

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

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
                for headers in ({}, {"X-API-Key": "anm_wrong"}, {"Authorization": "Bearer "}):
                    response = stranger.request(method, address, headers=headers)
                    assert response.status_code == 401, (method, path)
                walked += 1
    assert walked > (2 if service == "ingest" else 20)


def _schema(stack: Stack, service: str) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{stack.url(service)}/openapi.json", headers={"X-API-Key": KEY})


@pytest.fixture(scope="module")
def memory_schema(stack: Stack) -> schemathesis.BaseSchema:
    return _schema(stack, "memory")


@pytest.fixture(scope="module")
def ingest_schema(stack: Stack) -> schemathesis.BaseSchema:
    return _schema(stack, "ingest")


FUZZ = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
# What moves the embedding model or pulls files from hubs is fuzzed for shape elsewhere.


@pytest.mark.slow
@pytest.mark.timeout(600)
@schemathesis.pytest.from_fixture("memory_schema").parametrize()
@FUZZ
def test_memory_survives_any_input(case: schemathesis.Case) -> None:
    """No endpoint of memory answers a generated request, valid or not, with a 500."""
    case.call_and_validate(headers={"X-API-Key": KEY}, checks=[not_a_server_error], timeout=30)


@pytest.mark.slow
@pytest.mark.timeout(600)
@schemathesis.pytest.from_fixture("ingest_schema").parametrize()
@FUZZ
def test_ingest_survives_any_input(case: schemathesis.Case) -> None:
    """No endpoint of ingest answers a generated request, valid or not, with a 500."""
    case.call_and_validate(headers={"X-API-Key": KEY}, checks=[not_a_server_error], timeout=30)
