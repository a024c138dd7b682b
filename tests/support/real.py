"""A site of real processes on loopback: `rap dc serve`, `rap box run`, and the folder with their files.

The system chooses every TCP port; the programs print them on standard error. All processes end with their site.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Self

from agents.instrument.agent import InstrumentAgent
from datacenter.store import queries
from datacenter.store.store import Store
from hal.linux.clock import LinuxClock
from settings.types import Endpoint
from tests.support.eventually import eventually
from tests.support.paths import ROOT
from wire.tls.context import Identity, client_context

STORED_POLL_SECONDS = 0.02

BOARD = 'name = "loopback"\nuplink = "lo"\n[instrument_ports]\n1 = "port1"\n'
DATACENTER = """\
boxes = ["RAP-0001"]
[listen]
host = "127.0.0.1"
port = 0
[tls]
certificate = "dc.crt"
key = "dc.key"
authorities = "vendor-ca.crt"
[store]
url = "sqlite:///{folder}/reports.db"
"""
BOX = """\
board = "board.toml"
[identity]
certificate = "rap-0001.crt"
key = "rap-0001.key"
vendor_authority = "vendor-ca.crt"
datacenter_authority = "datacenter-root.crt"
[datacenter]
host = "127.0.0.1"
port = {port}
[[port]]
number = 1
listen = "127.0.0.1"
tcp_port = 0
{instruments}[spool]
directory = "spool"
bytes_max = 16777216
[sending]
linger_s = 0.1
[status]
socket = "box.sock"
"""


INSTRUMENT = """
[[port.instrument]]
serial = "{}"
model = "chemistry-analyzer"
"""


async def start(*arguments: object, within: Sequence[str] = ()) -> Process:
    """Run `rap` with these arguments in a new process; `within` is a command that precedes it, such as `env`."""
    command = (*within, sys.executable, "-m", "rap", *map(str, arguments))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE, stderr=PIPE)


async def rap(*arguments: object) -> tuple[int | None, str]:
    """Run `rap` to its end; return its exit status and standard error."""
    process = await start(*arguments)
    _, output = await process.communicate()
    return process.returncode, output.decode()


def own_lines(output: str) -> str:
    """Return the output of a program without warnings about a full disk, which depend on the machine."""
    return "".join(line for line in output.splitlines(keepends=True) if "warning: file-system: " not in line)


async def prepare(folder: Path, instruments: Sequence[str]) -> None:
    """Write certificates for a box, a data center and these instruments, and the data center's configuration."""
    assert await rap("pki", "init", folder) == (0, "")
    names = {"RAP-0001": "box", "DC": "datacenter", **dict.fromkeys(instruments, "instrument")}
    issued = [
        rap("pki", "issue", folder, name, "--for", use, "--host", "127.0.0.1") for name, use in names.items()
    ]
    assert set(await asyncio.gather(*issued)) == {(0, "")}
    (folder / "board.toml").write_text(BOARD)
    (folder / "dc.toml").write_text(DATACENTER.format(folder=folder))


def write_box_config(folder: Path, instruments: Sequence[str], datacenter_port: int) -> Path:
    file = folder / "box.toml"
    enrolled = "".join(map(INSTRUMENT.format, instruments))
    file.write_text(BOX.format(port=datacenter_port, instruments=enrolled))
    return file


class Site:
    """The processes and agents that use a folder written by `prepare`; all end with the context."""

    def __init__(self, folder: Path, instruments: Sequence[str]) -> None:
        self._folder, self._instruments = folder, instruments
        self._processes: list[Process] = []
        self._running: list[asyncio.Task[None]] = []
        self.agents: list[InstrumentAgent] = []
        self.output: list[str] = []
        """Lines that processes printed before the one with their TCP port."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._running:
            task.cancel()
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()

    async def start_datacenter(self) -> tuple[Process, int]:
        """Start the data center; return the process and the TCP port for boxes."""
        return await self.start("dc", "serve", "--config", self._folder / "dc.toml")

    async def start_box(self, datacenter_port: int) -> tuple[Process, int]:
        """Start the box; return the process and the TCP port for instruments."""
        file = write_box_config(self._folder, self._instruments, datacenter_port)
        return await self.start("box", "run", "--config", file)

    async def start(self, *arguments: object) -> tuple[Process, int]:
        """Run `rap` with these arguments; return the process and the TCP port that it prints first."""
        process = await start(*arguments)
        self._processes.append(process)
        assert process.stderr is not None
        while line := (await process.stderr.readline()).decode():
            if (last := line.split()[-1]).isdecimal():
                return process, int(last)
            self.output.append(line)
        raise AssertionError("".join(self.output[-20:]))

    def start_agents(self, box_port: int, box: str = "127.0.0.1") -> None:
        """Start an agent for each instrument; `box` is the name in the box's certificate."""
        for index, name in enumerate(self._instruments):
            stem = self._folder / name.lower()
            identity = Identity(*(stem.with_suffix(end) for end in (".crt", ".key", ".ca.crt")))
            agent = InstrumentAgent(
                Endpoint(box, box_port, "127.0.0.1"),
                client_context(identity),
                run_number=1,
                clock=LinuxClock(),
                random=Random(index),
            )
            self.agents.append(agent)
            self._running.append(asyncio.ensure_future(agent.run()))

    async def wait_until_stored(self, reports: int) -> list[queries.StoredRecord]:
        """Wait for this many records of instruments in the database, and return them. The caller limits the time."""
        store = Store(f"sqlite:///{self._folder}/reports.db")
        try:
            await eventually(lambda: _reports(store) >= reports, None, every_s=STORED_POLL_SECONDS)
            return [record for record in queries.records(store) if record.instrument]
        finally:
            store.close()


def _reports(store: Store) -> int:
    return sum(count for (_, instrument), count in queries.counts(store).items() if instrument)
