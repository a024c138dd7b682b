"""A back-test computes percentiles of the installed base from all tested instruments, and compares each with them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from datacenter.base.percentiles import INSTRUMENTS_MIN
from datacenter.base.snapshot import window
from datacenter.triggers.terms.term import ABSENT
from sim.backtest.base import base_terms, bases_of, simulated_base
from sim.backtest.histories import simulated_history
from sim.backtest.run import run_tests
from tests.support.datacenter.evaluation.triggers import MODEL, trigger

DAYS, DAY_MS = 5, 86_400_000
SEEDS = range(1, 1 + INSTRUMENTS_MIN)
READING = "vacuum-pa"
TRIGGER = trigger(f"{READING} > base({READING}, 90) and {READING} > base({READING}, 10)", name="high")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the histories, which all tests read."""
    return tmp_path_factory.mktemp("histories")


def readings_until(folder: Path, day: int) -> list[int]:
    """Return all readings of all instruments before a day, in ascending order."""
    readings = []
    for seed in SEEDS:
        for statuses in simulated_history(MODEL, seed, DAYS, folder).statuses():
            series = statuses.readings[READING]
            readings += series.values[series.present & (statuses.at_ms < day * DAY_MS)].tolist()
    return sorted(readings)


def test_percentiles_are_those_of_all_readings_of_the_window(folder: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        snapshots = simulated_base(base_terms([TRIGGER]), MODEL, SEEDS, DAYS, folder, executor)
    bases = bases_of(snapshots)
    for day in range(2, DAYS + 1):
        readings = readings_until(folder, window(day).stop)
        for percentile in (10, 90):
            rank = -(-percentile * len(readings) // 100)
            assert bases(day, READING, percentile) == readings[rank - 1]
    assert bases(1, READING, 90) == ABSENT
    assert bases(2, READING, 50) == ABSENT, "only percentiles that the triggers name are computed"


def test_there_is_no_base_with_fewer_instruments_than_the_minimum(folder: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        few = SEEDS[: INSTRUMENTS_MIN - 1]
        assert simulated_base(base_terms([TRIGGER]), MODEL, few, DAYS, folder, executor) == {}
        assert simulated_base(set(), MODEL, SEEDS, DAYS, folder, executor) == {}


def test_a_back_test_compares_readings_with_the_base(folder: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        results = list(run_tests([TRIGGER], SEEDS, DAYS, folder, executor))
    begun = np.array([alarm.at_ms for result in results for alarm in result.alarms])
    assert len(begun) and begun.min() >= 2 * DAY_MS
