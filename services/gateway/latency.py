"""How long searches took since the gateway started, read off its own metrics."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from pydantic import BaseModel, ConfigDict

from anamnesis.kit.metrics import Metrics


class Latency(BaseModel):
    """Quantiles are read off the buckets of a histogram, linearly within one; none where nothing was measured."""

    model_config = ConfigDict(frozen=True)

    requests: int
    p50_ms: float | None
    p95_ms: float | None


RECALL = "recall"
"""Under this name the searches are measured that the gateway makes by itself, before a turn of a conversation."""
SEARCHES = ("/api/episodes/search", RECALL)


def of_routes(metrics: Metrics, routes: Collection[str]) -> Latency:
    """Of all requests to these routes together."""
    counts: defaultdict[float, float] = defaultdict(float)
    for family in metrics.seconds.collect():
        for sample in family.samples:
            if sample.name.endswith("_bucket") and sample.labels["route"] in routes:
                counts[float(sample.labels["le"])] += sample.value
    bounds = sorted(counts.items())
    total = bounds[-1][1] if bounds else 0
    return Latency(requests=int(total), p50_ms=_quantile(bounds, 0.5), p95_ms=_quantile(bounds, 0.95))


def _quantile(bounds: Sequence[tuple[float, float]], share: float) -> float | None:
    """In milliseconds. `bounds`: upper bound of each bucket (s) and how many lie at or below it."""
    total = bounds[-1][1] if bounds else 0
    if not total:
        return None
    wanted, lower, below = share * total, 0.0, 0.0
    for upper, count in bounds:
        if count >= wanted:
            if upper == float("inf"):
                return lower * 1000  # it is known only that it took longer than the last bound
            return 1000 * (lower + (upper - lower) * (wanted - below) / (count - below))
        lower, below = upper, count
    return lower * 1000
