"""The speed of the virtual world: `python -m bench.lab.speed [--json]`.

The cost of a report's whole path (agent, TLS, collector, buffer, forwarder, TLS, proxy, store) is given as a multiple
of the cost of one timeout of a bare SimPy process. Both are processor times, measured alternately in one run.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import simpy
from simpy.events import ProcessGenerator

from bench.figures import Figure, figure, run
from sim.lab.labfile import load_lab
from sim.worlds import run_lab

ROUNDS = 5
TIMEOUTS = 1_000_000


def timeout_seconds() -> float:
    """Return the processor seconds of one SimPy timeout."""
    environment = simpy.Environment()

    def process() -> ProcessGenerator:
        for _ in range(TIMEOUTS):
            yield environment.timeout(1)

    environment.process(process())
    started = time.process_time()
    environment.run()
    return (time.process_time() - started) / TIMEOUTS


def figures() -> list[Figure]:
    lab = load_lab(Path("labs/01-clinic-128k.toml"))
    run_lab(lab)  # imports modules and fills caches
    costs, speeds = [], []
    for _ in range(ROUNDS):
        before = timeout_seconds()
        started, processor = time.perf_counter(), time.process_time()
        result = run_lab(lab)
        processor = time.process_time() - processor
        speeds.append(result.sim_seconds / (time.perf_counter() - started))
        costs.append(processor / result.reports.stored / ((before + timeout_seconds()) / 2))
    return [
        figure("cost of a report's path in lab 01", "SimPy timeouts", statistics.median(costs), "<= 350"),
        figure(
            "lab 01 against real time, set-up and verdict included",
            "x",
            statistics.median(speeds),
            ">= 80000",
        ),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
