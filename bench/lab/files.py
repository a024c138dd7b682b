"""A file transfer concurrent with reports on a line of 128 kbit/s: `python -m bench.lab.files [--json]`.

The same lab runs without a file, with a file of 1 MB to an instrument, and with one of 200 kB from it. The figures
are the share of the line's rate that the file reaches, and the latency of the reports that are made meanwhile,
compared with the latency of the same reports in the run without a file.
"""

from __future__ import annotations

from pathlib import Path

from bench.figures import Figure, figure, run
from datacenter.store import queries
from sim.instruments.instrument import DATA_FILE_BYTES
from sim.lab.labfile import parse_lab
from sim.units import MINUTE_NS, SECOND_NS
from sim.verdict.latency import quantile
from sim.verdict.ledger import NEVER
from sim.worlds.virtual.world import VirtualWorld

DOWN_BYTES = 1_000_000
SENT_NS = 5 * MINUTE_NS
LINE_BYTES_PER_SECOND = 128_000 / 8
LAB = """
[lab]
name = "file-beside-reports"
duration = "15m"
[box]
board = "rap-4"
linger = "0s"
[uplink]
rate = "128kbit"
delay = "40ms"
"""
INSTRUMENTS = "".join(
    f'[[instrument]]\nport = {port}\nmodel = "chemistry-analyzer"\nreport_every = "1s"\n'
    for port in range(1, 5)
)
COMMAND = '[[command]]\nat = "5m"\ntarget = "instrument:1"\n'


def measure(command: str) -> tuple[float, list[tuple[int, int]]]:
    """Run the lab; return the seconds of the transfer or 0, and of each report (made, latency) in ns."""
    with VirtualWorld(parse_lab(LAB + INSTRUMENTS + command, Path("file.toml"))) as world:
        duration_ns = world.lab.about.duration
        seconds = 0.0
        while world.env.now < duration_ns - SECOND_NS:
            world.run_until(world.env.now + SECOND_NS // 10)
            if command and not seconds and world.env.now > SENT_NS and _has_arrived(world):
                seconds = (world.env.now - SENT_NS) / SECOND_NS
        result = world.finish()
        assert result.verdict == "pass", result.failures
        latencies = [
            (entry.made_ns, entry.stored_ns - entry.made_ns)
            for entry in world.ledger
            if entry.stored_ns != NEVER and entry.priority == "routine"
        ]
        return seconds, latencies


def _has_arrived(world: VirtualWorld) -> bool:
    """Return whether the instrument has reported the result of the command, and the data center has the file."""
    return all(command.state == "done" for command in queries.commands(world.datacenter.store))


def figures() -> list[Figure]:
    _, alone = measure("")
    measured = []
    for name, size, command in (
        ("down", DOWN_BYTES, COMMAND + f'verb = "help-file"\nfile_bytes = "{DOWN_BYTES // 1000}kB"\n'),
        ("up", DATA_FILE_BYTES, COMMAND + 'verb = "data-upload"\n'),
    ):
        seconds, beside = measure(command)
        end_ns = SENT_NS + int(seconds * SECOND_NS)
        usual, during = (
            sorted(latency for made_ns, latency in latencies if SENT_NS <= made_ns < end_ns)
            for latencies in (alone, beside)
        )
        added_ns = quantile(during, 99) - quantile(usual, 99)
        share = size / seconds / LINE_BYTES_PER_SECOND
        measured += [
            figure(f"file {name}: from the command to its result", "s", seconds),
            figure(f"file {name}: share of the line's rate", "ratio", share, ">= 0.6"),
            figure(f"file {name}: latency of reports meanwhile, p99", "s", quantile(during, 99) / SECOND_NS),
            figure(f"file {name}: added p99", "s", added_ns / SECOND_NS, "<= 2"),
        ]
    return measured


if __name__ == "__main__":
    run(figures, __doc__)
