"""The time to send the backlog of three days without an uplink: `python -m bench.lab.drain [--json]`.

Lab 03 runs in a separate process, with an alert every two seconds while the backlog is sent. The duration of the
drain is compared with the time that the same bytes take on a line that is never idle.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

from simpy.events import ProcessGenerator

from bench.figures import Figure, figure, run
from sim.lab.labfile import load_lab
from sim.units import MINUTE_NS, SECOND_NS
from sim.verdict.causes import outage_ends
from sim.verdict.latency import quantile
from sim.verdict.ledger import NEVER
from sim.worlds.virtual.world import VirtualWorld

ALERT_EVERY_NS = 2 * SECOND_NS


def measure() -> dict[str, float]:
    """Run the lab, and return the measured values; durations are in seconds."""
    with VirtualWorld(load_lab(Path("labs/03-three-days-dark.toml"))) as world:
        (end_ns,) = outage_ends(world.lab.events)
        world.run_until(end_ns)
        backlog = sum(world.loop.run_until_complete(world.backlog()) or ())
        world.env.process(_raise_alerts(world))
        before = world.uplink.forward.bytes
        spent = 0
        while sum(world.loop.run_until_complete(world.backlog()) or ()) > 100:
            world.run_until(world.env.now + SECOND_NS // 4)
            spent = world.uplink.forward.bytes - before
        world.run_until(world.env.now + MINUTE_NS)
        result = world.finish()
        assert result.verdict == "pass", result.failures
        waited = [e for e in world.ledger if e.acknowledged_ns <= end_ns < e.stored_ns]
        drained_ns = max(entry.stored_ns for entry in waited)
        alerts = sorted(
            entry.stored_ns - entry.made_ns
            for entry in world.ledger
            if entry.kind == "alert" and end_ns < entry.made_ns < drained_ns and entry.stored_ns != NEVER
        )
        return {
            "backlog": backlog,
            "drained_s": (drained_ns - end_ns) / SECOND_NS,
            "line_s": spent * 8 / world.lab.uplink.rate,
            "bytes_each": spent / backlog,
            "alerts": len(alerts),
            "alert_p99_s": quantile(alerts, 99) / SECOND_NS,
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def _raise_alerts(world: VirtualWorld) -> ProcessGenerator:
    for count in range(200):
        model = world.analyzers[1 + count % len(world.analyzers)].model
        model.mishap(model.model.mishaps[0].code)
        yield world.env.timeout(ALERT_EVERY_NS)


def figures() -> list[Figure]:
    child = subprocess.run(
        [sys.executable, "-m", "bench.lab.drain", "--measure"], check=True, stdout=subprocess.PIPE, text=True
    )
    measured = json.loads(child.stdout)
    return [
        figure("lab 03: records waiting when the uplink returns", "records", measured["backlog"]),
        figure("lab 03: bytes sent per record, all layers", "B", measured["bytes_each"]),
        figure("lab 03: drain over line time", "ratio", measured["drained_s"] / measured["line_s"], "<= 1.10"),
        figure("lab 03: the drain", "min", measured["drained_s"] / 60, "<= 10"),
        figure("lab 03: alerts raised during the drain", "alerts", measured["alerts"]),
        figure("lab 03: latency of those alerts, 99th percentile", "s", measured["alert_p99_s"], "<= 2"),
        figure("lab 03: peak memory of the process", "MB", measured["rss_mb"], "<= 300"),
    ]  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        print(json.dumps(measure()))
    else:
        run(figures, __doc__)
