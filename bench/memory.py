"""What the box program needs: `python -m bench.memory [--json]`.

`rap box run` in its process, forwarding to a real `rap dc serve` while agents post as fast as they are answered, up
to 64 reports at once. The kernel says what it took: VmHWM, the most memory it ever had resident, shared libraries
included, and the processor time of all its threads.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from agents.ratelimit import REPORTS_BURST
from bench.figures import Figure, figure, run
from tests.real import Site, prepare
from wire.messages import Status

AGENTS = 10
REPORTS_EACH = REPORTS_BURST
"""More than what it may report at once would wait for the box's limit of 20 a second."""


def peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["VmHWM"].removesuffix("kB")) / 1024


def processor_seconds(pid: int) -> float:
    """See proc_pid_stat(5): utime and stime, the 14th and 15th field; the 2nd may contain spaces."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(folder: Path) -> list[Figure]:
    instruments = [f"CHEM-{number:04}" for number in range(1, AGENTS + 1)]
    await prepare(folder, instruments)
    async with Site(folder, instruments) as site:
        _, datacenter_port = await site.start_datacenter()
        box, box_port = await site.start_box(datacenter_port)
        idle_mb, spent = peak_mb(box.pid), processor_seconds(box.pid)
        site.start_agents(box_port)
        for agent in site.agents:
            for samples in range(REPORTS_EACH):
                readings = {"reaction-temp-mc": 37_000 + samples % 90, "lamp-h": samples}
                agent.submit(Status, "running", samples, readings)
        reports = len(await site.wait_until_stored(AGENTS * REPORTS_EACH))
        spent, most_mb = processor_seconds(box.pid) - spent, peak_mb(box.pid)
        return [
            figure("the box program, peak memory when ready", "MB", idle_mb),
            figure(f"the box program, peak memory after {reports:,} reports", "MB", most_mb, "<= 64"),
            figure("the box program, processor time", "µs a report", spent / reports * 1e6),
        ]


def figures() -> list[Figure]:
    with TemporaryDirectory() as folder:
        return asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    run(figures, __doc__)
