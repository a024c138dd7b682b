"""Simulated days of instruments with their own standards: `python -m bench.lab.dialects [--json]`.

Each day has five instruments, one of each standard, in dialects drawn from the day's seed, and pulled cables at times
drawn from it. Nothing may be lost, stored twice, altered or refused, and no text about a patient may leave the box.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

from bench.figures import Figure, figure, run
from sim.engine.streams import stream
from sim.lab.labfile import Lab, parse_lab
from sim.units import HOUR_NS, MINUTE_NS, format_duration
from sim.verdict.result import Result
from sim.worlds import run_lab

DAYS: Final = 500
COUNTED: Final = (
    "lost",
    "duplicates",
    "altered",
    "refused",
    "unacknowledged",
    "patient_texts",
    "program_errors",
)
MODELS: Final = (
    "modular-analyzer",
    "blood-cell-counter",
    "electrolyte-analyzer",
    "blood-gas-analyzer",
    "batch-chemistry-analyzer",
)
LAB: Final = """
[lab]
name = "dialects"
duration = "{duration}"
start = "05:30"
[box]
board = "rap-8"
linger = "30s"
spool_bytes_max = "16MiB"
[uplink]
rate = "1Mbit"
delay = "20ms"
"""
INSTRUMENT: Final = """
[[instrument]]
port = {port}
model = "{model}"
dialect = "random"
report_every = "10min"
"""
EVENT: Final = """
[[event]]
at = "{at}"
fault = "{fault}"
target = "{target}"
lasts = "{lasts}"
"""


def day(seed: int, duration_ns: int = 24 * HOUR_NS) -> Lab:
    """Return the lab of a seed."""
    random = stream(seed, "cables")
    text = LAB.format(duration=format_duration(duration_ns))
    text += "".join(INSTRUMENT.format(port=port, model=model) for port, model in enumerate(MODELS, 1))
    for port in range(1, len(MODELS) + 1):
        fault = random.choice(("link-down", "link-down", "instrument-unplugged"))
        at = random.randrange(duration_ns * 9 // 10 // MINUTE_NS) * MINUTE_NS
        lasts = random.randrange(1, 6) * MINUTE_NS
        text += EVENT.format(
            at=format_duration(at), fault=fault, target=f"instrument:{port}", lasts=format_duration(lasts)
        )
    return parse_lab(text, Path("dialects.toml"))


def run_day(seed: int) -> tuple[int, dict[str, int], int, str]:
    """Return the seed, the counts of the verdict, the number of reports, and the replay command of a failed day."""
    result = run_lab(day(seed), seed=seed)
    return seed, counted(result), result.reports.made, "" if result.verdict == "pass" else result.replay


def counted(result: Result) -> dict[str, int]:
    """Return the measured counts of the expectations in `COUNTED`; one that could not be evaluated counts as 1."""
    values = {
        expectation.name: expectation.measured
        for expectation in result.expectations
        if expectation.name in COUNTED
    }
    return {name: 1 if value is None else int(value) for name, value in values.items()}


def figures() -> list[Figure]:
    """Return the sums over all days."""
    total, reports = Counter[str](), 0
    with ProcessPoolExecutor(max_workers=2) as pool:
        for seed, counts, made, replay in pool.map(run_day, range(DAYS), chunksize=5):
            total.update(counts)
            reports += made
            if replay:
                print(f"day {seed} failed: {counts}\n  {replay}", flush=True)
    reported = figure(f"reports of {DAYS} days with dialects drawn at random", "", reports)
    return [reported, *(figure(f"{name} in {DAYS} days", "", total[name], "<= 0") for name in COUNTED)]


if __name__ == "__main__":
    run(figures, __doc__)
