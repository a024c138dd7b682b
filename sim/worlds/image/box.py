"""The box of a lab in the image world: a flashed disk and QEMU, observed from outside.

A power cut kills QEMU (SIGKILL) and discards the data that the guest had not flushed (`sim.worlds.image.disk.cache`).
When the power returns, the machine boots from the data on the medium. No part of the simulator runs in the guest:
the state of its peers shows whether the box is connected and how many reports wait on it, and at the end the box
program's spool reader reads the reports that remain on its disk.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from agents.box.audit_work import SESSIONS_AUDIT
from agents.box.status.status import WaitingRecords
from hal.linux.disk import LinuxDisk
from imaging.flash import gpt
from sim.engine.layers import End, Layers
from sim.engine.trace import Trace
from sim.lab.labfile import Lab
from sim.lab.standards import serial_ports
from sim.verdict.findings import SpoolContent
from sim.worlds.image.disk.client import GuestDisk
from sim.worlds.image.inside import InsideFaults
from sim.worlds.image.machine import qemu
from sim.worlds.image.machine.actions import FILLER
from sim.worlds.image.machine.guest import GuestHost
from sim.worlds.image.machine.serial_lines import serial_lines, uart_of
from sim.worlds.image.machine.slots import Slot, card_id, cards, interfaces, slot_of
from sim.worlds.image.refusals import MIB
from sim.worlds.image.sessions import page_at_port
from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.kernel.namespaces.process import LabProcess
from sim.worlds.shared.refusals import ImageRefused
from sim.worlds.shared.site.addresses import DATACENTER_PORT, box_address
from sim.worlds.shared.site.box import read_disk
from sim.worlds.shared.site.standards import tcp_port
from sim.worlds.shared.staff.sessions import PageOfPort
from wire.dial.traffic import Traffic

STATE_PARTITION: Final = "rap"
"""The label of the partition that is mounted at /var/lib/rap (kickstart/layout.toml)."""
_SPOOL: Final = "spool"
_CONSOLE_LINES: Final = 25
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b-\x1f\x7f]")
"""Control sequences (ECMA-48), which boot menus use, and all other control characters except tabs and line feeds."""
_MONITOR_SECONDS_MAX: Final = 60.0
_POLL_SECONDS: Final = 0.2
_ESTABLISHED: Final = "01"


class ImageBoxState(msgspec.Struct, frozen=True):
    """The externally visible state of the box: what the lab uses of `agents.box.status.status.StatusReport`."""

    connected: bool
    backlog: WaitingRecords
    firewall: None = None


class ImageBox:
    """The machine with its disk; `peers` are the hosts of its instruments, by port, and of the data center."""

    def __init__(
        self,
        host: GuestHost,
        lab: Lab,
        disk: GuestDisk,
        machine: tuple[str, qemu.Firmware],
        peers: tuple[Mapping[int, NamespaceHost], NamespaceHost],
        waiting: Callable[[], WaitingRecords],
        folder: Path,
        random: Callable[[str], Random],
        trace: Trace,
        vendor_authority: Path,
    ) -> None:
        self._host, self._lab, self._random, self._trace = host, lab, random, trace
        self._disk, self._waiting = disk, waiting
        self._accelerator, self._firmware = machine
        self._instruments, self._datacenter = peers
        self.folder, self._vendor_authority = folder, vendor_authority
        self.session_audit = folder / "sessions.audit"
        """A copy of the audit file on its disk, made after the final power cut."""
        self._slots: dict[str, Slot] = {
            name: slot for name in interfaces(lab.board) if (slot := slot_of(name))
        }
        self._cabled = {
            lab.board.uplink,
            *(lab.board.instrument_ports[spec.port] for spec in lab.instruments),
        }
        numbers = serial_ports(lab.instruments, lab.board).values()
        self._uarts = {n: uart for n in numbers if (uart := uart_of(lab.board.serial_ports[n])) is not None}
        self._unplugged: set[str] = set()
        self._process: LabProcess | None = None
        self._monitor: qemu.Monitor | None = None
        self._answered = False
        self._power_holds = Layers[None](self._follow_power)
        self._read_only = Layers[None](lambda: disk.set_read_only(bool(self._read_only)))
        self._ended = False
        self.inside = InsideFaults(folder, lambda: self._monitor, trace)
        host.on_carrier = self._carrier

    # -- observation

    async def status(self) -> ImageBoxState | None:
        """Return the state of the box; None until it has accepted a connection since power-on."""
        if not self._answered:
            return None
        connected = bool(_connections(self._datacenter, DATACENTER_PORT, local=True))
        return ImageBoxState(connected, self._waiting())

    def outgoing(self) -> Iterator[tuple[str, bytes]]:
        """Yield nothing: only the data center's database is searched for texts about patients."""
        return iter(())

    def instrument_connections(self) -> int | None:
        """Return the number of connections from instruments; None without power."""
        if self._process is None:
            return None
        ports = [(self._instruments[spec.port], tcp_port(spec)) for spec in self._lab.instruments]
        return sum(_connections(host, port, local=False) for host, port in ports if port is not None)

    def traffic(self) -> Traffic:
        """Return zeros: only the box program can distinguish its payload from the bytes that TLS adds."""
        return Traffic()

    def refused(self) -> Mapping[str, int]:
        """Return nothing: the counters are in the guest."""
        return {}

    def console_tail(self) -> str:
        """Return the last lines of the serial console."""
        log = qemu.console_log(self.folder)
        text = log.read_text("utf-8", "replace") if log.exists() else ""
        plain = _CONTROL.sub("", text)
        lines = [line.rstrip() for line in plain.splitlines() if line.strip()]
        return "\n".join(f"    {line}" for line in lines[-_CONSOLE_LINES:])

    async def wait_until_up(self, seconds_max: float) -> None:
        """Wait until the box accepts connections from instruments, or, if all have serial lines, has connected to the
        data center.

        Raises: ImageRefused, with the last lines of the serial console.
        """
        until = time.monotonic() + seconds_max
        while not await self._accepts_connections():
            process = self._process
            if process is not None and process.returncode:  # 0: the guest restarts, see `_follow`
                raise ImageRefused(self._start_failure(f"QEMU ended: {process.output().strip()}"))
            if time.monotonic() >= until:
                raise ImageRefused(self._start_failure(f"accepted no connection within {seconds_max:.0f} s"))
            await asyncio.sleep(_POLL_SECONDS)
        self._answered = True

    async def _accepts_connections(self) -> bool:
        for spec in self._lab.instruments:
            if (port := tcp_port(spec)) is not None:
                return await _accepts(self._instruments[spec.port], box_address(spec.port), port)
        return bool(_connections(self._datacenter, DATACENTER_PORT, local=True))

    def _start_failure(self, reason: str) -> str:
        tail = self.console_tail()
        console = (
            f"the last lines of its serial console:\n{tail}" if tail else "its serial console printed nothing"
        )
        hint = "" if tail else "; build the image for x86-64, with the kernel argument console=ttyS0"
        return f"the box did not start from the image: it {reason}; {console}{hint}"

    def page(self, port: int) -> PageOfPort:
        """See `RealBox.page`."""
        return page_at_port(self._instruments[port], port, self._vendor_authority)

    # -- faults: see `sim.faults.world`

    def hold_power(self) -> End:
        """Cut the power, which discards unflushed data. Power returns when every such effect has ended."""
        return self._power_holds.add(None)

    def _follow_power(self) -> None:
        if self._power_holds and self._process is not None:
            self._lose_power()
        elif not self._power_holds and self._process is None and not self._ended:
            self.boot()

    def boot(self) -> None:
        """Switch on."""
        self._trace.add("box boots")
        devices = [*cards(self._slots, self._cabled), *serial_lines(self.folder, self._uarts)]
        self.inside.powered_on()
        clock = datetime.now(UTC) + timedelta(microseconds=self.inside.hardware_clock_ns // 1000)
        command = qemu.command(
            self._accelerator, self._firmware, self.folder, self._disk.socket, devices, clock
        )
        self._process = process = self._host.spawn(command)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._watch(process)), loop.create_task(self._follow(process))]

    async def _follow(self, process: LabProcess) -> None:
        """Boot again when the guest restarts: QEMU ends with status 0 then, and the disk keeps its cache."""
        if await process.wait() == 0 and process is self._process:
            self._trace.add("box restarts")
            self._switched_off()
            self.boot()

    async def _watch(self, process: LabProcess) -> None:
        """Connect to QEMU's monitor, and detect when the box accepts connections again."""
        until = time.monotonic() + _MONITOR_SECONDS_MAX
        while process is self._process and time.monotonic() < until:
            with suppress(OSError):
                self._monitor = await asyncio.to_thread(qemu.Monitor, self.folder)
                for interface in self._unplugged:
                    self._set_link(interface, up=False)
                break
            await asyncio.sleep(_POLL_SECONDS)
        if not self._answered:
            with suppress(ImageRefused):
                await self.wait_until_up(float("inf"))
                await self.inside.booted()

    _tasks: Sequence[asyncio.Task[None]] = ()

    def _lose_power(self) -> None:
        self._trace.add("box loses power")
        process = self._process
        assert process is not None
        self._switched_off()
        process.kill_now()
        kept, lost = self._disk.cut_power()
        self._trace.add(f"disk keeps {kept} unflushed sectors, loses {lost}")

    def _switched_off(self) -> None:
        self.inside.powered_off()
        self._process, self._answered = None, False
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    def _carrier(self, interface: str, up: bool) -> None:
        (self._unplugged.discard if up else self._unplugged.add)(interface)
        self._set_link(interface, up=up)

    def _set_link(self, interface: str, *, up: bool) -> None:
        if self._monitor is not None:
            with suppress(OSError):  # QEMU has just ended
                self._monitor.execute("set_link", name=card_id(interface), up=up)

    async def tear(self, operation: int) -> End:
        """Wait for the disk's `operation`-th write or flush from now on, and cut the power during it."""
        await self._disk.torn(operation)
        return self.hold_power()

    def slow_disk(self, flush_ns: int) -> End:
        """Make each flush take `flush_ns` ns; the longest of several times applies."""
        return self._disk.slow_down(flush_ns)

    def make_disk_read_only(self) -> End:
        """Make the disk reject every write; when every such effect has ended, the box restarts by itself."""
        return self._read_only.add(None)

    def lie_about_flushes(self, holds_ns: int) -> End:
        """Acknowledge flushes, and keep the data of the last `holds_ns` ns in the cache; the longest applies."""
        return self._disk.lie_about_flushes(holds_ns)

    def fail_flushes(self, times: int) -> None:
        """Make `times` more flushes fail."""
        self._disk.fail_flushes(times)

    def fail_reads(self, times: int) -> None:
        """Make `times` more reads of the partition with the reports fail."""
        self._disk.fail_requests("reads", times, self._state_bytes())

    def fail_writes(self, times: int) -> None:
        """Make `times` more writes to the partition with the reports fail."""
        self._disk.fail_requests("writes", times, self._state_bytes())

    def check_disk(self) -> None:
        """Check that the disk has a partition for the box's state. Raises: ImageRefused."""
        _state_partition(self._disk.descriptor)

    def _state_bytes(self) -> range:
        partition = _state_partition(self._disk.descriptor)
        return range(partition.offset, partition.offset + partition.length)

    async def kill(self) -> None:
        """Kill the box program, if the system runs; systemd restarts it."""
        await self.inside.kill()

    async def fill_disk(self) -> End:
        """Fill the state partition with other data."""
        return await self.inside.fill_disk()

    async def jump_clock(self, ns: int) -> None:
        """Move the wall clock and the hardware clock by `ns` ns."""
        await self.inside.jump_clock(ns)

    # -- the end

    def remaining(self) -> SpoolContent:
        """Cut the power for the last time; return the spool's content: see `sim.worlds.shared.site.box.read_disk`."""
        self._ended = True
        self.hold_power()
        partition = _state_partition(self._disk.descriptor)
        folder = self.folder / "state"
        folder.mkdir(exist_ok=True)
        # mounting replays the file system's journal, as the next boot would do
        options = f"loop,offset={partition.offset},sizelimit={partition.length}"
        mount = ["mount", "-o", options, str(self._disk.file), str(folder)]
        subprocess.run(["flock", "/dev/loop-control", *mount], check=True)
        try:
            (folder / FILLER).unlink(missing_ok=True)  # opening the spool needs some room
            with suppress(FileNotFoundError):
                shutil.copyfile(folder / _SPOOL / SESSIONS_AUDIT, self.session_audit)
            disk = LinuxDisk(folder / _SPOOL)
            try:
                return read_disk(disk, self._lab.box.spool_bytes_max, self._random("inspection"))
            finally:
                disk.close()
        finally:
            subprocess.run(["umount", folder], check=True)


def _state_partition(disk: int) -> gpt.Slice:
    for partition in gpt.slices(os.pread(disk, MIB, 0)):
        if partition.label == STATE_PARTITION:
            return partition
    raise ImageRefused(f"the image has no partition named {STATE_PARTITION!r} for the box's state")


async def _accepts(host: NamespaceHost, address: str, port: int) -> bool:
    """Return whether a TCP connection to `address`:`port` succeeds within a second."""
    from sim.worlds.kernel.supervision.real_time import acting

    token = acting.set(host)
    try:
        async with asyncio.timeout(1):
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, address, port)
        transport.abort()
        return True
    except OSError:  # also TimeoutError
        return False
    finally:
        acting.reset(token)


def _connections(host: NamespaceHost, port: int, *, local: bool) -> int:
    """Return the number of established TCP connections of a host with the `local` or the remote port `port`."""
    with host.inside():
        lines = Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
    rows = (line.split() for line in lines)
    ending = f":{port:04X}"
    return sum(row[3] == _ESTABLISHED and row[1 if local else 2].endswith(ending) for row in rows)
