"""A process that runs many labs does not accumulate memory."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path

from bench.lab.many_labs import LAB
from sim.lab.labfile import parse_lab
from sim.worlds import run_lab

WARM_UP = 3
LABS = 4
PARSED = parse_lab(LAB, Path("level.toml"))
PROJECT_PACKAGES = ("agents", "datacenter", "hal", "netfw", "settings", "sim", "sqlalchemy", "wire")
LIBRARY_TYPES = (
    "SSLContext",
    "SSLObject",
    "SSLSession",
    "_SSLSocket",
    "Task",
    "Context",
    "Connection",
    "X509",
)
BOUNDED = ("wire.http.heads.Head",)  # in caches of a fixed size


def count_objects() -> Counter[str]:
    gc.collect()
    kinds = (type(item) for item in gc.get_objects())
    return Counter(
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in kinds
        if str(kind.__module__).partition(".")[0] in PROJECT_PACKAGES or kind.__name__ in LIBRARY_TYPES
    )


def run_labs(count: int) -> None:
    for seed in range(count):
        assert run_lab(PARSED, seed=seed).reports.lost == 0


def test_a_finished_lab_leaves_no_objects_in_memory() -> None:
    run_labs(WARM_UP)
    before, objects_before = count_objects(), len(gc.get_objects())
    run_labs(LABS)
    after = count_objects()
    grown = {kind: after[kind] - before[kind] for kind in after if kind not in BOUNDED}
    assert {kind: more for kind, more in grown.items() if more >= LABS} == {}
    assert len(gc.get_objects()) - objects_before <= 50 * LABS
