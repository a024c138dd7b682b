"""Histories of instruments without a network: `python -m bench.lab.history [--json]`.

An instrument-year has one report per minute, an operator and the service. Beside the processor time, which depends
on the machine and its load, the cost of a report is given as a multiple of one timeout of a bare SimPy process,
measured alternately in one run.
"""

from __future__ import annotations

import time

from bench.figures import Figure, figure, run
from bench.lab.speed import timeout_seconds
from sim.instruments import model_names
from sim.instruments.history import History
from sim.units import DAY_NS

DAYS = 60
ROUNDS = 3


def year(model: str) -> tuple[float, float]:
    """Return processor seconds of a model's instrument-year, and SimPy timeouts per report; the best of ROUNDS."""
    costs = []
    for _ in range(ROUNDS):
        before = timeout_seconds()
        history = History(model, "X-1", 1)
        began = time.process_time()
        reports = sum(1 for _ in history.until(DAYS * DAY_NS))
        seconds = time.process_time() - began
        timeout = (before + timeout_seconds()) / 2
        costs.append((seconds * 365 / DAYS, seconds / reports / timeout))
    return min(costs)


def figures() -> list[Figure]:
    """Return all figures of histories."""
    measured = []
    for model in model_names():
        seconds, timeouts = year(model)
        measured += [
            figure(f"an instrument-year, {model}", "s of CPU", seconds, "<= 4"),
            figure("  a report of it", "SimPy timeouts", timeouts),
        ]
    return measured


if __name__ == "__main__":
    run(figures, __doc__)
