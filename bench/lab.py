"""How fast the virtual world is: `python -m bench.lab [--json]`.

A report's whole journey (agent, TLS, collector, buffer, forwarder, TLS, proxy, store) is counted in SimPy timeouts of
the same run: what a bare SimPy process does in the time. Both are processor time of one core, taken in turns.
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
    """Processor time of one SimPy timeout."""
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
    run_lab(lab)  # imports, and what is compiled at first use
    journeys, speeds = [], []
    for _ in range(ROUNDS):
        before = timeout_seconds()
        started, processor = time.perf_counter(), time.process_time()
        result = run_lab(lab)
        processor = time.process_time() - processor
        speeds.append(result.sim_seconds / (time.perf_counter() - started))
        journeys.append(processor / result.reports.stored / ((before + timeout_seconds()) / 2))
    return [
        figure("a report's journey in lab 01", "SimPy timeouts", statistics.median(journeys), "<= 350"),
        figure(
            "lab 01 against real time, set-up and verdict included",
            "x",
            statistics.median(speeds),
            ">= 80000",
        ),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
