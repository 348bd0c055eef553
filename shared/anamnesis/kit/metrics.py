"""Prometheus metrics of one app; each app has its own registry, so several may live in one process."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest


class Metrics:
    """Counts and durations of requests; services add their own metrics to `registry`."""

    def __init__(self, service: str) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "anamnesis_requests",
            "Requests by method, route and status.",
            ("service", "method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "anamnesis_request_seconds",
            "Duration of requests by route, in seconds.",
            ("service", "route"),
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self._service = service

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        self.requests.labels(self._service, method, route, str(status)).inc()
        self.seconds.labels(self._service, route).observe(seconds)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)
