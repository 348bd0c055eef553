"""Metrics of the crawler: counts and seconds, without paths and without text."""

import re

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from anamnesis.crawl.counts import CrawlCounts

_REASON = re.compile(r"[a-z][a-z -]{0,39}")


class CrawlFigures:
    """What scans came to, for Prometheus."""

    def __init__(self) -> None:
        self._files = Gauge("anamnesis_crawl_files", "Files that the last whole scan found.", registry=None)
        self._changed = Counter("anamnesis_crawl_changed", "Files that were new or had changed.", registry=None)
        self._errors = Counter(
            "anamnesis_crawl_errors", "Files that could not be read, by reason.", ("reason",), registry=None
        )
        self._seconds = Histogram(
            "anamnesis_crawl_seconds",
            "Duration of scans, by what began them and how they ended.",
            ("trigger", "state"),
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200),
            registry=None,
        )

    def register(self, registry: CollectorRegistry) -> None:
        for metric in (self._files, self._changed, self._errors, self._seconds):
            registry.register(metric)

    def observe(self, counts: CrawlCounts, trigger: str, state: str, seconds: float) -> None:
        if trigger != "watch" and state == "done":
            self._files.set(counts.files)
        self._changed.inc(counts.files_changed)
        for reason, count in counts.errors.items():
            self._errors.labels(reason if _REASON.fullmatch(reason) else "other").inc(count)
        self._seconds.labels(trigger, state).observe(seconds)
