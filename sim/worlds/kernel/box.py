"""The box in the kernel world: its two shipped programs on a separate host, with an ext4 disk.

`rap box run` has only the capability CAP_NET_BIND_SERVICE; the separate firewall service has CAP_NET_ADMIN.

A power cut kills the programs and keeps only the data that was written to the loop device: data in the page cache is
lost. When the power returns, a copy of the file behind the device is mounted, as a disk after a power loss would be.
The instrument ports are closed until the program opens them. The kernel of the host keeps running, and keeps the
ruleset.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final, Protocol

import msgspec

from agents.box.audit_work import SESSIONS_AUDIT
from agents.box.configuration.config import (
    BoxConfig,
    FirewallPolicy,
    StatusSocket,
)
from agents.box.firewall import FirewallStatus
from agents.box.status.status import NotRunning, StatusReport, WaitingRecords, read_status
from agents.enrolment.certificate_files import BoxCertificates
from agents.provision.box import sending, spool_size
from hal.linux.disk import LinuxDisk
from netfw.service.spawn import environment
from settings.board import load_board
from settings.site import Enrolment
from settings.toml import dumps
from settings.types import Endpoint, Proxy
from sim.engine.layers import End, Layers
from sim.engine.trace import Trace
from sim.faults.world import BoxPart
from sim.lab.labfile import Lab
from sim.verdict.findings import SpoolContent
from sim.worlds.kernel.firewall import KernelFirewall
from sim.worlds.kernel.namespaces.disk import LoopDisk
from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.kernel.namespaces.process import LabProcess
from sim.worlds.kernel.namespaces.vpn import vpn_ends
from sim.worlds.kernel.sessions import make_tun_device, page_at_socket
from sim.worlds.shared.conclusion import InspectedBox
from sim.worlds.shared.site.addresses import DATACENTER_NAME
from sim.worlds.shared.site.box import (
    BOOT_SECONDS,
    DISK_BYTES_BESIDE_SPOOL,
    RESTART_SECONDS,
    add_traffic,
    read_disk,
    reporting,
)
from sim.worlds.shared.site.session_keys import SessionKeys, session_settings
from sim.worlds.shared.site.standards import served_port, tcp_port
from sim.worlds.shared.staff.sessions import PageOfPort
from wire.dial.traffic import Traffic


class LabBoxState(Protocol):
    """The state of a running box, as a lab shows and measures it."""

    @property
    def connected(self) -> bool:
        """Whether it has a connection to the data center."""
        ...

    @property
    def backlog(self) -> WaitingRecords:
        """Records that the data center has not acknowledged."""
        ...

    @property
    def firewall(self) -> FirewallStatus | None:
        """The state of its firewall; None if unknown."""
        ...


class RealBox(BoxPart, InspectedBox, Protocol):
    """A box in a lab with real programs: in the kernel and the image world."""

    async def status(self) -> LabBoxState | None:
        """Return the box's state; None while it does not run or does not answer."""
        ...

    def instrument_connections(self) -> int | None:
        """Return the number of connections with instruments; None while it does not run."""
        ...

    def outgoing(self) -> Iterator[tuple[str, bytes]]:
        """Return the bytes on its disk and in its log, with the names of the sources."""
        ...

    def boot(self) -> None:
        """Switch on."""
        ...

    @property
    def session_audit(self) -> Path:
        """The audit file of remote sessions, after the final power cut."""
        ...

    def page(self, port: int) -> PageOfPort:
        """Return the box's page at an instrument port."""
        ...


BOARD: Final = "board.toml"
_PROGRAM: Final = "box program"
_SERVICE: Final = "firewall service"
_VPN: Final = "vpn"
_LISTEN: Final = "0A"
_DROP_CAPABILITIES: Final = (
    "setpriv",
    "--bounding-set=-all,+net_bind_service",
    "--inh-caps=-all",
    "--ambient-caps=-all",
    "--",
)


class KernelBox:
    """The box's hardware, and the programs running on it."""

    def __init__(
        self,
        host: NamespaceHost,
        close_ports: Callable[[], None],
        lab: Lab,
        identity: BoxCertificates,
        proxy: Proxy | None,
        folder: Path,
        random: Callable[[str], Random],
        trace: Trace,
        serial_devices: Mapping[int, str],
        session_keys: SessionKeys | None = None,
    ) -> None:
        """`serial_devices` are the devices of its serial ports; with `session_keys` it permits remote sessions."""
        self._host, self._lab, self._random, self._trace = host, lab, random, trace
        self._close_ports = close_ports
        self.disk = LoopDisk("disk", lab.box.spool_bytes_max + DISK_BYTES_BESIDE_SPOOL)
        self._spool = self.disk.folder / "spool"
        self._spool.mkdir()
        folder.mkdir()
        self._socket = folder / "box.sock"
        self._page, self._session_keys = folder / "page.sock", session_keys
        """The socket of the local page."""
        if session_keys is not None:
            make_tun_device(host)
        self._firewall = KernelFirewall(host, folder, lab)
        self._config = folder / "box.toml"
        (folder / BOARD).write_text(board_file(lab.box.board, serial_devices))
        self._config.write_text(dumps(self._configuration(lab, identity, proxy)))
        self._processes: dict[str, LabProcess] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._lives = 0
        self._logs: list[str] = []
        """The output of each program that has ended."""
        self._power_holds = Layers[None](self._follow_power)
        self._fillers = Layers[None](self._apply_fillers)
        self._read_only = Layers[None](self._follow_read_only)
        self._earlier, self._status = Traffic(), None

    _status: StatusReport | None

    def _configuration(self, lab: Lab, identity: BoxCertificates, proxy: Proxy | None) -> BoxConfig:
        return BoxConfig(
            board=BOARD,
            identity=identity,
            datacenter=Endpoint(DATACENTER_NAME),
            proxy=proxy,
            port=[served_port(lab, spec, self._random) for spec in lab.instruments],
            spool=spool_size(reporting(lab), self._spool),
            sending=sending(reporting(lab)),
            status=StatusSocket(socket=self._socket),
            firewall=FirewallPolicy(policy=Path(self._firewall.policy.name), socket=self._firewall.socket),
            enrolment=Enrolment() if lab.box.enrolment != "none" else None,
            sessions=session_settings(self._session_keys, self._page) if self._session_keys else None,
            fips=lab.box.fips,
        )

    # -- state

    @property
    def session_audit(self) -> Path:
        """See `RealBox.session_audit`; the disk must be mounted."""
        return self._spool / SESSIONS_AUDIT

    def page(self, port: int) -> PageOfPort:
        """See `RealBox.page`."""
        return page_at_socket(self._page, port)

    @property
    def is_on(self) -> bool:
        """Whether the box has power."""
        return bool(self._keepers)

    async def status(self) -> StatusReport | None:
        """Return the status reported by the program; None while it does not run or does not answer."""
        try:
            self._status = await asyncio.to_thread(read_status, self._socket)
        except NotRunning:
            return None
        return self._status

    def instrument_connections(self) -> int | None:
        """Return the number of open connections with instruments; None while the program does not run."""
        process = self._processes.get(_PROGRAM)
        if process is None or process.returncode is not None:
            return None
        try:
            table = Path(f"/proc/{process.pid}/net/tcp").read_text()
        except OSError:
            return None  # it has just ended
        ports = set(map(tcp_port, self._lab.instruments))
        return sum(_is_instrument_connection(line.split(), ports) for line in table.splitlines()[1:])

    def traffic(self) -> Traffic:
        """Return the program's traffic on the uplink, over all its starts, as of the last `status` of each."""
        return add_traffic(self._earlier, self._status.traffic) if self._status else self._earlier

    def refused(self) -> Mapping[str, int]:
        """Return the numbers of packets that the firewall refused, by cause; empty if it was never in force."""
        return self._firewall.refused()

    def remaining(self) -> SpoolContent:
        """Cut the power for the last time, and read the disk: see `sim.worlds.shared.site.box.read_disk`."""
        self.hold_power()
        self.disk.mount()
        (self.disk.folder / "something-else").unlink(missing_ok=True)  # opening the spool needs some room
        disk = LinuxDisk(self._spool)
        try:
            return read_disk(disk, self._lab.box.spool_bytes_max, self._random("inspection"))
        finally:
            disk.close()

    def outgoing(self) -> Iterator[tuple[str, bytes]]:
        """Yield the bytes on its disk and in its log, with the names of the sources; the disk must be mounted."""
        yield from (("disk", file.read_bytes()) for file in self._spool.rglob("*") if file.is_file())
        yield "log", "".join(self._logs).encode()

    # -- faults: see `sim.faults.world`

    def hold_power(self) -> End:
        """Cut the power, losing data not written to the disk; the box boots when every hold has ended."""
        return self._power_holds.add(None)

    def _follow_power(self) -> None:
        if self.is_on and self._power_holds:
            self._lose_power()
        elif not self.is_on and not self._power_holds:
            self.boot()

    def boot(self) -> None:
        """Switch the box on."""
        self._trace.add("box boots")
        self.disk.mount()
        self._fill()
        if self._read_only:
            self.disk.make_read_only()
        delay_s = BOOT_SECONDS if self._lives else 0.0
        program = [sys.executable, "-m", "rap", "box", "run", "--config", str(self._config)]
        commands = {_SERVICE: self._firewall.command(), _PROGRAM: [*_DROP_CAPABILITIES, *program]}
        if self._lab.uplink.vpn:
            commands[_VPN] = vpn_ends(self._lab)[0].command(self._config.with_name(_VPN))
        self._keepers = [
            asyncio.create_task(self._keep_running(name, command, delay_s))
            for name, command in commands.items()
        ]

    def _lose_power(self) -> None:
        self._trace.add("box loses power")
        for keeper in self._keepers:
            keeper.cancel()
        self._keepers = []
        for name in (_SERVICE, _VPN):
            if service := self._processes.pop(name, None):
                service.kill_now()  # before the ports are closed, since the firewall service opens them
        self._close_ports()  # before the program ends, so that the kernel's resets do not reach instruments
        self._kill_program()
        self.disk.cut_power()

    async def kill(self) -> None:
        """Kill the program (SIGKILL); while the power is on, the system restarts it."""
        self._kill_program()

    def _kill_program(self) -> None:
        process = self._processes.get(_PROGRAM)
        if process is not None:
            self._trace.add("box program killed")
            process.kill_now()
        if self._status is not None:
            self._earlier, self._status = self.traffic(), None

    async def fill_disk(self) -> End:
        """Fill the free space of the disk with other data."""
        return self._fillers.add(None)

    def _apply_fillers(self) -> None:
        """Fill the disk as the effects require, at the next boot if the disk cannot be written now."""
        if self.disk.is_mounted and not self._read_only:
            self._fill()

    def _fill(self) -> None:
        """Create or remove the data that fills the disk."""
        file = self.disk.folder / "something-else"
        if not self._fillers:
            file.unlink(missing_ok=True)
            return
        with file.open("ab") as filler, suppress(OSError):
            while True:
                filler.write(bytes(1 << 20))

    def make_disk_read_only(self) -> End:
        """Make the disk's file system read-only with an error; when every such effect has ended, the box reboots."""
        return self._read_only.add(None)

    def _follow_read_only(self) -> None:
        if not self.is_on:
            return  # the next boot applies it
        if not self._read_only:
            self._lose_power()
            self.boot()
        elif len(self._read_only) == 1:
            self.disk.make_read_only()

    # -- running the program

    async def _keep_running(self, name: str, command: Sequence[str | Path], delay_s: float) -> None:
        while True:
            await asyncio.sleep(delay_s)
            self._lives += name == _PROGRAM
            self._trace.add(f"{name} starts" + (f", life {self._lives}" if name == _PROGRAM else ""))
            process = self._processes[name] = self._host.spawn(command, env=environment())
            status = await process.wait()
            self._logs.append(process.output())
            self._trace.add(f"{name} ends: {status}")
            delay_s = RESTART_SECONDS


def board_file(name: str, serial_devices: Mapping[int, str]) -> str:
    """Return the text of a board file in which the serial ports have these devices."""
    board = load_board(name)
    ports = {number: serial_devices.get(number, device) for number, device in board.serial_ports.items()}
    return dumps(msgspec.structs.replace(board, serial_ports=ports))


def _is_instrument_connection(fields: Sequence[str], ports: Collection[int | None]) -> bool:
    """Return whether a line of /proc/net/tcp (proc_pid_net(5)) is a connection that a program has accepted."""
    port, state, inode = int(fields[1].partition(":")[2], 16), fields[3], fields[9]
    return port in ports and state != _LISTEN and inode != "0"
