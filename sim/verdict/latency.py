"""A summary of a run's latencies: exact quantiles, and a histogram with logarithmic bins.

A report takes milliseconds from the instrument to the data center in normal operation, and hours during an outage.
Logarithmic bins, ten per decade, show both.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from sim.verdict.result import Latency, Priority

BINS_PER_DECADE: Final = 10
SHORTEST_NS: Final = 10**5
"""The first edge, 0.1 ms; shorter latencies are in the first bin."""


def summarize(priority: Priority, samples_ns: Iterable[int]) -> Latency:
    """Summarize the latencies of one priority: any number of samples in nanoseconds, in any order."""
    ordered = sorted(samples_ns)
    if not ordered:
        return Latency(priority=priority, count=0, p50_ns=0, p90_ns=0, p99_ns=0, max_ns=0)
    edges, counts = _histogram(ordered)
    return Latency(
        priority=priority,
        count=len(ordered),
        p50_ns=quantile(ordered, 50),
        p90_ns=quantile(ordered, 90),
        p99_ns=quantile(ordered, 99),
        max_ns=ordered[-1],
        edges_ns=edges,
        counts=counts,
    )


def quantile(ordered: list[int], percent: int) -> int:
    """Return the smallest sample that at least `percent` % of the samples do not exceed (nearest-rank method)."""
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def _histogram(ordered: list[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the edges and counts of the bins, from the bin of the shortest sample to the bin of the longest."""
    first, last = _bin(ordered[0]), _bin(ordered[-1])
    edges = [_edge(i) for i in range(first, last + 2)]
    counts = [0] * (last - first + 1)
    for sample in ordered:
        counts[max(0, bisect_right(edges, sample) - 1)] += 1
    return tuple(edges), tuple(counts)


def _edge(index: int) -> int:
    return round(SHORTEST_NS * 10 ** (index / BINS_PER_DECADE))


def _bin(sample_ns: int) -> int:
    """Return the index of a sample's bin; samples shorter than the first edge are in bin 0."""
    index = max(0, math.floor(math.log10(max(sample_ns, SHORTEST_NS) / SHORTEST_NS) * BINS_PER_DECADE))
    while _edge(index + 1) <= sample_ns:  # the logarithm may be rounded across an edge
        index += 1
    while index and _edge(index) > sample_ns:
        index -= 1
    return index
