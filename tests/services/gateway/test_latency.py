"""Quantiles read off the gateway's own histogram."""

from anamnesis.kit.metrics import Metrics
from services.gateway.latency import SEARCHES, of_routes


def test_nothing_measured_is_nothing_known() -> None:
    found = of_routes(Metrics("gateway"), SEARCHES)
    assert (found.requests, found.p50_ms, found.p95_ms) == (0, None, None)


def test_quantiles_lie_in_their_buckets() -> None:
    """Linear within a bucket; the gateway's own searches count as well, other routes do not."""
    metrics = Metrics("gateway")
    for _ in range(80):
        metrics.observe("POST", "/api/episodes/search", 200, 0.02)
    for _ in range(10):
        metrics.seconds.labels("gateway", "recall").observe(0.02)
    for _ in range(10):
        metrics.observe("POST", "/api/episodes/search", 200, 0.3)
    metrics.observe("GET", "/dashboard", 200, 9)
    found = of_routes(metrics, SEARCHES)
    assert found.requests == 100
    assert found.p50_ms is not None
    assert 10 < found.p50_ms < 25
    assert found.p95_ms is not None
    assert 250 < found.p95_ms < 500


def test_what_is_slower_than_every_bucket_is_the_last_bound() -> None:
    """More is not known."""
    metrics = Metrics("gateway")
    metrics.observe("POST", "/x", 200, 99)
    assert of_routes(metrics, ("/x",)).p95_ms == 30_000
