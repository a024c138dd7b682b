"""The cost of an instrument's standard in the box program: `python -m bench.box.adapter_cost [--json]`.

Each measurement is a new process, which first imports the box program as it is without such instruments. Memory is
the growth of its own pages (USS, from smaps_rollup), start the processor time; both are of the imports, one engine
and its first message. The last figures are of all standards together.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from statistics import median
from typing import Any, Final

from bench.figures import Figure, figure, run
from tests.support.paths import FIXTURES, ROOT

ROUNDS: Final = 5
STANDARDS: Final = {
    "hl7": "hl7-status-with-offset",
    "astm": "astm-qc-alarm-and-blob",
    "astm-serial": "astm-split-inside-a-record",
    "poct1a": "poct1a-basic-conversation",
    "au": "au-fixed-columns",
}
"""For each standard a conversation, whose first piece is fed to the standard's engine."""
PROGRAM: Final = """
import json, sys, time
import agents.box.main, hal.linux.clock
from pathlib import Path
from settings.problems import Problems
from settings.profile import Profile
from settings.adapted import AdaptedPort
from settings.toml import read_table
from wire.standards.engines import make_engine

def uss():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024

ports = json.loads(sys.argv[1])
sites = [read_table(AdaptedPort, port["config"], (), Problems(Path("x"), "")) for port in ports]
before, began = uss(), time.process_time()
for port, site in zip(ports, sites):
    profile = Profile(model="measured", version=1, summary="measured", speaks=port["speaks"])
    engine = make_engine(profile, site, lambda: 0, 0.0)
    engine.receive(bytes.fromhex(port["data"]), 0.0)
    if port["speaks"] in ("astm-serial", "au"):
        import hal.linux.serial
print(json.dumps([uss() - before, (time.process_time() - began) * 1000]))
"""


def conversations() -> dict[str, dict[str, Any]]:
    """Return the settings of a port and bytes from its instrument, for each standard."""
    folder = FIXTURES / "instruments"
    indexes = [tomllib.loads((folder / name).read_text()) for name in ("index.toml", "box-and-poct1a.toml")]
    cases = {case["name"]: case for index in indexes for case in index["case"]}
    return {
        speaks: {
            "speaks": speaks,
            "config": cases[name]["config"],
            "data": (folder / cases[name]["file"]).read_bytes().hex(),
        }
        for speaks, name in STANDARDS.items()
    }


def cost(ports: list[dict[str, Any]]) -> tuple[float, float]:
    """Return MiB, and milliseconds of processor time; the medians of several processes."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(ports)]
    measured = [json.loads(subprocess.check_output(command, cwd=ROOT)) for _ in range(ROUNDS)]
    mib, milliseconds = zip(*measured, strict=True)
    return median(mib), median(milliseconds)


def figures() -> list[Figure]:
    """Return the figures of memory and start of each standard, and of all together."""
    measured, ports = [], conversations()
    for name, used in [*((speaks, [port]) for speaks, port in ports.items()), ("all", [*ports.values()])]:
        mib, milliseconds = cost(used)
        target = "<= 30" if name in ports else ""
        measured += [
            figure(f"{name}: memory of the adapter", "MiB", mib, "<= 4"),
            figure(f"{name}: start of the adapter", "ms of CPU", milliseconds, target),
        ]
    return measured


if __name__ == "__main__":
    run(figures, __doc__)
