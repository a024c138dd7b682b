"""Memory growth of a process that runs many labs, as a campaign does: `python -m bench.lab.many_labs [--json]`.

The labs run in a separate process, which prints its resident memory after the first few labs, when its caches are
full, and after the last lab.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.figures import Figure, figure, run

FIRST = 5
LABS = 600
PROGRAM = """
import gc, sys
from pathlib import Path
from sim.lab.labfile import parse_lab
from sim.worlds import run_lab

def resident_mb():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6

first, labs = int(sys.argv[1]), int(sys.argv[2])
lab = parse_lab(sys.argv[3], Path("level.toml"))
for seed in range(first):
    run_lab(lab, seed=seed)
before = resident_mb()
for seed in range(labs):
    run_lab(lab, seed=seed)
print(before, resident_mb())
"""
LAB = """
[lab]
name = "level"
duration = "15min"
[box]
board = "rap-4"
[uplink]
rate = "128kbit"
delay = "40ms"
proxy = { kind = "http", auth = "basic" }
[[instrument]]
port = 1
model = "chemistry-analyzer"
[[instrument]]
port = 2
model = "hematology-analyzer"
[[event]]
at = "5min"
fault = "link-down"
target = "uplink"
lasts = "2min"
[[event]]
at = "8min"
fault = "power-cut"
target = "box"
lasts = "1min"
"""


def figures() -> list[Figure]:
    command = [sys.executable, "-c", PROGRAM, str(FIRST), str(LABS), LAB]
    output = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    ).stdout
    before, after = map(float, output.split())
    return [
        figure(f"resident after {FIRST} labs in one process", "MB", before),
        figure(f"growth over {LABS} more labs", "MB", after - before, "<= 20"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
