"""The speed of evaluating triggers, live and in back-tests: `python -m bench.datacenter.triggers [--json]`.

Thirty triggers of the chemistry analyzer are evaluated for random status reports with its ten readings: report by
report in Python, and for many instruments at once with numpy. Both in processor time of one core.
"""

from __future__ import annotations

import time
from random import Random
from typing import Final

import numpy as np

from bench.figures import Figure, figure, run
from datacenter.triggers.columns import Column, ColumnEvaluator
from datacenter.triggers.live import LiveEvaluator, LiveFunctions
from datacenter.triggers.terms.inputs import Input, Reading
from settings.profile import load_profile
from tests.support.datacenter.triggers import MODEL, trigger
from wire.messages import Status

REPORTS: Final = 20_000
INSTRUMENTS: Final = 10_000
STEPS: Final = 40
CHANNELS: Final = list(load_profile(MODEL).channels)
CONDITIONS: Final = [
    condition.format(channel, limit=limit)
    for channel, limit in zip(CHANNELS, range(60, 100, 4), strict=True)
    for condition in (
        "{} > {limit} and state is running",
        "ewma({}, 64) > {limit} / 2",
        "cusum-high({}, 50, 10.5) > {limit}",
    )
]


def report(random: Random, number: int) -> Status:
    """Return a status report with random readings, one minute after the previous one."""
    readings = {channel: random.randrange(100) for channel in CHANNELS}
    return Status(number, number * 60_000, "running", 0, readings)


def live_seconds() -> float:
    """Return the processor seconds to evaluate thirty triggers for one report."""
    random = Random(1)
    reports = [report(random, number) for number in range(1, REPORTS + 1)]
    evaluator = LiveEvaluator(LiveFunctions([trigger(condition) for condition in CONDITIONS]))
    began = time.process_time()
    for one in reports:
        evaluator.evaluate(one)
    return (time.process_time() - began) / REPORTS


def column_seconds() -> float:
    """Return the processor seconds per report to evaluate the same triggers for many instruments at once."""
    random = np.random.default_rng(1)
    evaluator = ColumnEvaluator([trigger(condition) for condition in CONDITIONS], INSTRUMENTS)
    every = np.ones(INSTRUMENTS, np.bool_)
    began = time.process_time()
    for step in range(STEPS):
        inputs: dict[Input, Column] = {
            Reading(channel): Column(every, random.integers(0, 100, INSTRUMENTS)) for channel in CHANNELS
        }
        evaluator.evaluate(every, np.full(INSTRUMENTS, step * 60_000, np.int64), inputs)
    return (time.process_time() - began) / STEPS / INSTRUMENTS


def figures() -> list[Figure]:
    """Return all figures."""
    live, columns = (min(measured() for _ in range(3)) for measured in (live_seconds, column_seconds))
    return [
        figure("thirty triggers for a report, live", "µs", live * 1e6, "<= 2"),
        figure("thirty triggers for a report, as back-test", "µs", columns * 1e6),
        figure("a back-test of 10,000 instruments over 90 days, computed", "min", columns * 1.296e9 / 60),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
