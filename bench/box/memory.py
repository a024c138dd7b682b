"""Memory and processor time of the box program: `python -m bench.box.memory [--json]`.

`rap box run` runs in its own process and forwards to a real `rap dc serve`. Agents post reports one by one, as in
normal operation, and then 64 at once as fast as they are acknowledged, as after an outage. The kernel reports the
cost: VmHWM, the peak resident memory including shared libraries, and the processor time of all threads.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from agents.box.intake.limits import REPORTS_BURST
from agents.instrument.agent import InstrumentAgent
from bench.figures import Figure, figure, run
from tests.support.eventually import eventually
from tests.support.real import Site, prepare
from wire.messages import Status

AGENTS = 10
SINGLY_EACH = 200
TOGETHER_EACH = REPORTS_BURST - SINGLY_EACH
"""The number of reports that agents post at once; the box's limit of 20 a second would delay more."""


def peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["VmHWM"].removesuffix("kB")) / 1024


def processor_seconds(pid: int) -> float:
    """Return the processor seconds of a process: utime + stime, fields 14 and 15 of proc_pid_stat(5)."""
    # the second field is the program's name in parentheses and may contain spaces
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def submit(agent: InstrumentAgent) -> None:
    readings = {"reaction-temp-mc": 37_000 + agent.made % 90, "lamp-h": agent.made}
    agent.submit(Status, "running", agent.made, readings)


async def processor_us_each(site: Site, pid: int, rounds: int, reports: int) -> float:
    """Return processor µs per report. In each round every agent submits `reports` reports; all are acknowledged."""
    before = processor_seconds(pid)
    for _ in range(rounds):
        for agent in site.agents:
            for _ in range(reports):
                submit(agent)
        await eventually(lambda: not any(agent.waiting for agent in site.agents))
    await site.wait_until_stored(sum(agent.made for agent in site.agents))
    return (processor_seconds(pid) - before) / (AGENTS * rounds * reports) * 1e6


async def measure(folder: Path) -> list[Figure]:
    instruments = [f"CHEM-{number:04}" for number in range(1, AGENTS + 1)]
    await prepare(folder, instruments)
    async with Site(folder, instruments) as site:
        _, datacenter_port = await site.start_datacenter()
        box, box_port = await site.start_box(datacenter_port)
        ready_mb = peak_mb(box.pid)
        site.start_agents(box_port)
        singly_us = await processor_us_each(site, box.pid, SINGLY_EACH, 1)
        together_us = await processor_us_each(site, box.pid, 1, TOGETHER_EACH)
        reports = sum(agent.made for agent in site.agents)
        return [
            figure("the box program, peak memory when ready", "MB", ready_mb),
            figure(f"the box program, peak after {reports:,} reports", "MB", peak_mb(box.pid), "<= 64"),
            figure("the box program, processor, posted one by one", "µs per report", singly_us),
            figure("the box program, processor, posted 64 at once", "µs per report", together_us),
        ]


def figures() -> list[Figure]:
    with TemporaryDirectory() as folder:
        return asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    run(figures, __doc__)
