"""The metrics of the data center's program, in a separate registry.

Counters and histograms count the work of this process. The gauges of the database (`datacenter.monitoring.figures`)
and of limits are read when they are requested. Labels have few values: words of the program, routes of its tables,
names of the configuration. No label names a box, an instrument, a person or an alert.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from datacenter.store.batches.batch import Received
from datacenter.store.errors import UnknownBoxError
from datacenter.store.tables.schema import REVISION
from wire.messages import BatchReply
from wire.process.bounds import Level

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper limits of the buckets for requests, transactions and evaluation."""
AGE_SECONDS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0, 604_800.0)
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
RECORD_RESULTS: Final = ("stored", "duplicate", "refused", "failed")
IngestAll = Callable[[list[Received]], Sequence[BatchReply | Exception]]
Families = Callable[[], Iterable[Metric]]


class Metrics:
    """The metrics of this process; `registry` contains them."""

    def __init__(self) -> None:
        self.registry: CollectorRegistry = _WithoutCreationTimes()
        ProcessCollector(registry=self.registry)
        self._records = Counter(
            "rap_records",
            "Records of batches that boxes sent, by outcome.",
            ["result"],
            registry=self.registry,
        )
        for result in RECORD_RESULTS:
            self._records.labels(result)
        self._transaction = Histogram(
            "rap_ingest_transaction_seconds",
            "Duration of the transactions that store batches.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._age = Histogram(
            "rap_batch_age_seconds",
            "Time from the oldest report of a batch with new records, by its reporter's clock, to its arrival.",
            buckets=AGE_SECONDS,
            registry=self.registry,
        )
        self._evaluation = Histogram(
            "rap_evaluation_delay_seconds",
            "Time from the commit of a batch to the end of the evaluation of its box.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._evaluation_failures = Counter(
            "rap_evaluation_failures", "Failed evaluations; each is repeated.", registry=self.registry
        )
        self._requests = Counter(
            "rap_http_requests",
            "Answered HTTP requests, by listener, route and status.",
            ["listener", "method", "route", "status"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "rap_http_request_seconds",
            "Time from a complete HTTP request to its response, by listener and route.",
            ["listener", "route"],
            buckets=SECONDS,
            registry=self.registry,
        )

    def add(self, families: Families) -> None:
        """Add metrics that `families` computes at each request."""
        self.registry.register(_Families(families))

    def measured(self, ingest_all: IngestAll, seconds: Callable[[], float]) -> IngestAll:
        """Return `ingest_all` with counting added; `seconds` is a monotonic clock."""

        def ingest(received: list[Received]) -> Sequence[BatchReply | Exception]:
            begun = seconds()
            outcomes = ingest_all(received)
            self._transaction.observe(seconds() - begun)
            for arrival, outcome in zip(received, outcomes, strict=True):
                self._count(arrival, outcome)
            return outcomes

        return ingest

    def _count(self, arrival: Received, outcome: BatchReply | Exception) -> None:
        records = len(arrival.batch.records)
        if not isinstance(outcome, BatchReply):
            result = "refused" if isinstance(outcome, UnknownBoxError) else "failed"
            self._records.labels(result).inc(records)
            return
        self._records.labels("stored").inc(outcome.stored)
        self._records.labels("duplicate").inc(records - outcome.stored)
        if outcome.stored:
            oldest_ms = min(record.entry.body.at_ms for record in arrival.batch.records)
            self._age.observe(max(arrival.at_ms - oldest_ms, 0) / 1000)

    def evaluated(self, seconds: float) -> None:
        """Count the evaluation of a box, which ended `seconds` after its batch was stored."""
        self._evaluation.observe(seconds)

    def evaluation_failed(self) -> None:
        """Count a failed evaluation."""
        self._evaluation_failures.inc()

    def request(self, listener: str, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request. `route` is a template of a table, so that there are few."""
        method = method if method in METHODS else "other"
        self._requests.labels(listener, method, route, str(status)).inc()
        self._request_seconds.labels(listener, route).observe(seconds)


class _WithoutCreationTimes(CollectorRegistry):
    """A registry without the creation times of counters, which would be a second series for each counter."""

    def collect(self) -> Iterator[Metric]:
        for family in super().collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


class _Families(Collector):
    """Metrics that are computed at each request."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()

    def describe(self) -> Iterable[Metric]:
        """Return nothing; without this method, the registry would call `collect` when this is added."""
        return ()


def gauge(name: str, text: str, value: float) -> Metric:
    """Return a metric with one value."""
    return GaugeMetricFamily(name, text, value=value)


def gauges(name: str, text: str, labels: Sequence[str], values: dict[tuple[str, ...], float]) -> Metric:
    """Return a metric with a value for each combination of its labels."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def build_info(database: str) -> Metric:
    """Return the metric whose labels are versions; `database` is "sqlite" or "postgresql"."""
    try:
        program = version("rap-box")
    except PackageNotFoundError:
        program = "unknown"
    names = ("version", "python", "schema", "database")
    key = (program, platform.python_version(), REVISION, database)
    text = "Versions of the program, of Python and of the schema, and the kind of the database."
    return gauges("rap_build_info", text, names, {key: 1})


def limits(levels: Iterable[Level]) -> Metric:
    """Return the used share of each limit."""
    text = (
        "Used share of each limit of the program; the log has a warning at 0.8, for the file system at 0.75."
    )
    used: dict[tuple[str, ...], float] = {
        (level.name,): level.amount / level.limit for level in levels if level.limit > 0
    }
    return gauges("rap_limit_used_ratio", text, ["limit"], used)
