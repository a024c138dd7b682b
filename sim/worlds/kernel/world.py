"""The kernel world: a lab in real time, with real programs on the kernel's network stack.

Instruments, operators, faults, meters, checks and result are the same as in the virtual world. The box programs, the
data center and the proxy are processes, each on a separate host (network namespace). The world runs in the
supervisor's process (`sim.worlds.kernel.supervision.supervisor`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

from hal.linux.clock import LinuxClock
from hal.serial import SerialPort
from sim.engine.layers import End
from sim.engine.streams import stream
from sim.engine.trace import Trace
from sim.faults import AnyFault, port_of
from sim.lab.labfile import Lab, LabInstrument
from sim.lab.sessions import LabSession
from sim.lab.standards import serial_ports
from sim.units import MILLISECOND_NS
from sim.verdict.found.sessions import SessionAudits, SessionFindings, by_monotonic_clocks
from sim.verdict.ledger import ReportLedger
from sim.verdict.result import Result
from sim.verdict.result import World as Name
from sim.worlds.kernel.analyzer import KernelComputer, PtyCable
from sim.worlds.kernel.box import KernelBox, RealBox
from sim.worlds.kernel.datacenter import KernelDataCenter
from sim.worlds.kernel.namespaces.link import KernelLink
from sim.worlds.kernel.namespaces.process import LabProcess
from sim.worlds.kernel.namespaces.vpn import vpn_ends
from sim.worlds.kernel.proxy import KernelProxy
from sim.worlds.kernel.sessions import KernelStaffPortal, redirect_tunnels, serve_desktop
from sim.worlds.kernel.site import KernelSite
from sim.worlds.kernel.supervision.lab import KernelLab
from sim.worlds.kernel.supervision.real_time import HostLoop, RealTimeEnvironment
from sim.worlds.shared.conclusion import conclude
from sim.worlds.shared.database import rows
from sim.worlds.shared.fault_runner import FaultRunner
from sim.worlds.shared.instruments.analyzer import Analyzer
from sim.worlds.shared.instruments.reporter import Workplace
from sim.worlds.shared.intruders import Intruders
from sim.worlds.shared.meters import BacklogMeter, ConnectionMeter, UplinkMeter
from sim.worlds.shared.site.certificates import LabCertificates
from sim.worlds.shared.site.proxy import client_settings
from sim.worlds.shared.site.session_keys import SessionKeys, desktops_by_link
from sim.worlds.shared.site.standards import box_endpoint, dialect_of
from sim.worlds.shared.staff.sessions import PageOfPort, SessionPeople

_NS: Final = 1_000_000_000
CHECK_SECONDS_MAX: Final = 300.0
"""Time limit for reading the disk and the database at the end."""


class KernelWorld:
    """One run of one lab: `start`, wait for real time to pass, `finish`."""

    name: Name = "kernel"
    replay_options = ""
    consoles: Mapping[str, str] = {}
    """The sockets of serial consoles, by host."""

    def __init__(self, namespaces: KernelLab, lab: Lab, seed: int | None = None) -> None:
        self.lab, self.namespaces = lab, namespaces
        self.seed = lab.about.seed if seed is None else seed
        namespaces.seed = self.seed
        loop = asyncio.get_running_loop()
        assert isinstance(loop, HostLoop)
        self._loop = loop
        self.ledger = ReportLedger()
        self.finished = False
        self.analyzers: dict[int, Analyzer] = {}
        self._certificates = certificates = LabCertificates(
            namespaces.folder / "pki", datetime.now(UTC).replace(microsecond=0)
        )
        self.site = site = self._make_site()
        self._session_keys = (
            self._make_session_keys(namespaces.folder / "session-keys") if lab.sessions else None
        )
        if lab.sessions:
            redirect_tunnels(site.datacenter)
        self.datacenter = KernelDataCenter(
            site.datacenter,
            namespaces.folder / "datacenter",
            certificates.datacenter(),
            evaluates_triggers=lab.expect.evaluates_triggers,
            session_keys=self._session_keys,
            vendor=certificates.vendor_files() if lab.box.enrolment != "none" else None,
            lab=lab,
            releases=self._make_releases(),
        )
        self.gateway: LabProcess | None = None
        """The far end of the site's VPN."""
        self.proxy: KernelProxy | None = None
        if site.proxy is not None and lab.uplink.proxy is not None:
            self.proxy = KernelProxy(
                site.proxy,
                lab.uplink.proxy,
                namespaces.folder / "proxy",
                site.backbone,
                certificates.inspector(),
            )
        self.env = RealTimeEnvironment()
        self.trace = Trace(lambda: self.env.now)
        self.faults = self._make_faults()
        self._cables = self._make_cables()
        """The cables of serial lines, by the box's serial port."""
        self.box = self._make_box()
        self.uplink, self.names = site.uplink, site.names
        if self.proxy is not None:
            self.names.on_change = self.proxy.reload_names
        self._outside = KernelComputer(site.router)
        self.intruders = Intruders(lab, self._run_program)
        portal = KernelStaffPortal(site.datacenter, self.datacenter.secret)
        self.people = SessionPeople(lambda: portal, self._page, lambda: self.env.now, self.trace)
        self.uplink_meter = UplinkMeter(self.uplink, lab.about.duration, self.trace)
        self.backlog_meter = BacklogMeter()
        self.connection_meter = ConnectionMeter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._statuses: dict[bytes, None] = {}

    def why_no_fault(self, kind: type[AnyFault], target: str) -> str:
        """Return why this world cannot have a fault of that kind, or ""; with an empty target, at any target."""
        del target
        if kind.of_machine:
            return "needs a box with a disk and a clock of its own, as in the virtual and the image world"
        return "needs emulated hardware, which only the virtual world has" if kind.emulated else ""

    def _make_faults(self) -> FaultRunner:
        return FaultRunner(self, lambda: self.env.now, self.trace)

    def _make_releases(self) -> Path | None:
        """Return the folder of the lab's releases; None: no box of this world can be updated."""
        return None

    def _make_session_keys(self, folder: Path) -> SessionKeys:
        return SessionKeys.make(folder)

    def _make_site(self) -> KernelSite:
        return KernelSite(self.namespaces, self.lab)

    def _make_cables(self) -> dict[int, PtyCable]:
        numbers = serial_ports(self.lab.instruments, self.lab.board).values()
        return {number: PtyCable(f"serial{number}") for number in numbers}

    def _make_box(self) -> RealBox:
        return KernelBox(
            self.site.box,
            self.site.close_ports,
            self.lab,
            self._certificates.box(is_expired=self.lab.box.enrolment == "expired"),
            client_settings(self.lab),
            self.namespaces.folder / "box",
            self.random,
            self.trace,
            {number: cable.device for number, cable in self._cables.items()},
            self._session_keys,
        )

    def siem_received(self) -> Sequence[str]:
        """See `sim.worlds.shared.conclusion.ConcludedWorld`: this world has no SIEM."""
        return ()

    def session_findings(self) -> SessionFindings:
        """See `sim.worlds.shared.conclusion.ConcludedWorld`."""
        if self._session_keys is None:
            return SessionFindings()
        return self._session_audits(self._session_keys).read(self.people.requested)

    def _session_audits(self, keys: SessionKeys) -> SessionAudits:
        clocks = by_monotonic_clocks(self.env.began_ns // MILLISECOND_NS)
        files = self.datacenter.session_audit, self.box.session_audit
        return keys.audits(*files, self.datacenter.store, clocks)

    def _page(self, session: LabSession) -> PageOfPort:
        port = port_of(session.target) or 0
        if session.acts_at == "display":
            return self.analyzers[port].show_sessions()
        return self.box.page(port)

    def outgoing(self) -> Iterator[tuple[str, bytes]]:
        """See `sim.worlds.shared.conclusion.ConcludedWorld`."""
        yield from (("database", data) for data in rows(self.datacenter.store))
        yield from self.box.outgoing()
        yield from (("status", data) for data in self._statuses)

    def _run_program(self, target: str, program: Callable[[], Coroutine[Any, Any, None]]) -> End:
        if target != "uplink":
            return self.instrument(target).run(program)
        task = self._outside.start(program())

        def end() -> None:
            task.cancel()

        return end

    def random(self, name: str) -> Random:
        """Return a random stream derived from the seed and `name`."""
        return stream(self.seed, name)

    def wall_ns(self) -> int:
        """Return the wall-clock time, in nanoseconds since 1970."""
        return time.time_ns()

    @property
    def failures(self) -> list[str]:
        """Exceptions that no task of the simulator handled, and frames lost because the machine was too slow."""
        overrun = {name: link.overrun for name, link in self.namespaces.links.items() if link.overrun}
        slow = [
            f"this machine was too slow: the simulator lost {n} frames of {name}"
            for name, n in overrun.items()
        ]
        return self._loop.failures + slow

    async def start(self) -> None:
        """Start all programs; lab time starts when the data center and the proxy accept connections."""
        await asyncio.gather(self.datacenter.start(), *([self.proxy.start()] if self.proxy else []))
        if self.lab.uplink.vpn:
            self.gateway = self.site.router.spawn(
                vpn_ends(self.lab)[1].command(self.namespaces.folder / "gateway")
            )
        await self._power_on()
        self.env.begin()
        self.uplink_meter.began_ns = self.env.began_ns
        self.analyzers = {spec.port: self.make_analyzer(spec) for spec in self.lab.instruments}
        orders = (self.faults.run_order(order, self.lab.serial(order.target)) for order in self.lab.orders)
        events = map(self.faults.run_event, self.lab.events)
        for link, tcp_port in desktops_by_link(self.lab).items():
            port = port_of(link) or 0
            await serve_desktop(self.site.instruments[port], self.analyzers[port].spec, tcp_port)
        sessions = (
            self.people.run(session, self.lab.serial(session.target)) for session in self.lab.sessions
        )
        for coroutine in (self.env.run_forever(), self._sample(), *events, *orders, *sessions):
            task = self._loop.create_task(coroutine)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)  # so that an exception is noted as not handled

    async def _power_on(self) -> None:
        """Switch the box on; the lab begins afterwards."""
        self.box.boot()

    def make_analyzer(self, spec: LabInstrument) -> Analyzer:
        return Analyzer(
            Workplace(
                self.env,
                KernelComputer(self.site.instruments[spec.port]),
                spec,
                box_endpoint(spec),
                self._certificates.instrument(spec.serial, is_expired=spec.enrolment == "expired"),
                LinuxClock(),
                self.ledger,
                lambda name: self.random(f"{spec.serial} {name}"),
                -self.lab.about.start,
                dialect_of(spec, self.random),
                self._serial_line(spec),
            )
        )

    def _serial_line(self, spec: LabInstrument) -> SerialPort | None:
        """Return the instrument's end of its serial line, if it has one."""
        cable = self._cables.get(serial_ports(self.lab.instruments, self.lab.board).get(spec.port, 0))
        if cable is None:
            return None
        self.link(f"instrument:{spec.port}").on_change.append(cable.follow)
        return cable.instrument

    async def _sample(self) -> None:
        while True:
            status = await self.box.status()
            backlog = None
            if status is not None:
                backlog = (status.backlog.alert, status.backlog.audit, status.backlog.routine)
            connected = status is not None and status.connected
            self.backlog_meter.sample(self.env.now, backlog, connected=connected)
            self.connection_meter.sample(self.box.instrument_connections())
            self._statuses[repr(status).encode()] = None
            bins = len(self.backlog_meter.samples)
            await asyncio.sleep(max(0, bins * self.uplink_meter.bin_ns - self.env.now) / _NS)

    @property
    def backlog(self) -> int:
        """The number of unacknowledged records on the box at the last sample."""
        return sum(self.backlog_meter.samples[-1]) if self.backlog_meter.samples else 0

    # -- faults

    async def change_address(self, target: str) -> None:
        """See `sim.faults.world.World`."""
        self.site.change_address(target)

    def link(self, target: str) -> KernelLink:
        """Return the link of a target: `uplink` or `instrument:<port>`."""
        return self.namespaces.links[target]

    def instrument(self, target: str) -> Analyzer:
        """Return the instrument of a target `instrument:<port>`."""
        return self.analyzers[int(target.partition(":")[2])]

    # -- the end

    def finish(self) -> Result:
        """End the lab now: cut the box's power, read its disk and the data center's database, and evaluate."""
        self.finished = self.faults.closed = True
        self.namespaces.deadline.within(CHECK_SECONDS_MAX, "checking the expectations")
        for task in self._tasks:
            task.cancel()
        self.datacenter.stop()
        result = conclude(self, self.env.now / _NS)
        self.namespaces.deadline.cancel()
        return result
