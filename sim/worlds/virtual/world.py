"""The virtual world: a lab in one process and in simulated time, with the shipped box program.

    instrument ── LAN ──┐
    instrument ── LAN ──┤ box ── uplink ── [proxy ── backbone ──] data center
    instrument ── LAN ──┘

The lab file describes the uplink; the LANs and the backbone behind a proxy are never the bottleneck. Lab file, seed
and program determine the whole run: each link, host and operator has its own random stream, derived from the seed and
its name.
"""

from __future__ import annotations

import asyncio
import calendar
import gc
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Final

from agents.spool import Priority
from hal.emul.clock import EmulClock
from hal.emul.serial import EmulSerialPort
from netfw.policy.policy import Policy
from settings.profile import load_profile
from sim.engine.layers import End
from sim.engine.streams import stream
from sim.engine.trace import Trace
from sim.faults import port_of
from sim.instruments.desktop import InstrumentDesktop
from sim.lab.labfile import Lab, LabInstrument
from sim.lab.sessions import LabSession
from sim.lab.shipped_triggers import shipped_triggers
from sim.lab.standards import serial_ports
from sim.net.link import Link
from sim.net.loop import SimLoop
from sim.proxies.spnego import workstation
from sim.sessions.keys import drawn_keys
from sim.updates.orders import ordered_releases
from sim.updates.releases import LabReleases
from sim.verdict.found.sessions import SessionFindings, by_monotonic_clocks
from sim.verdict.ledger import ReportLedger
from sim.verdict.result import Result
from sim.verdict.result import World as Name
from sim.worlds.shared.conclusion import conclude
from sim.worlds.shared.database import rows
from sim.worlds.shared.fault_runner import FaultRunner
from sim.worlds.shared.instruments.analyzer import Analyzer
from sim.worlds.shared.instruments.reporter import Workplace
from sim.worlds.shared.intruders import Intruders
from sim.worlds.shared.meters import BacklogMeter, ConnectionMeter, UplinkMeter
from sim.worlds.shared.site.addresses import BOX_NAME, BOX_SERIAL, instrument_address
from sim.worlds.shared.site.certificates import LabCertificates, LabKeys, rsa_keys
from sim.worlds.shared.site.policy import lab_policy
from sim.worlds.shared.site.proxy import client_settings
from sim.worlds.shared.site.session_keys import SessionKeys, desktops_by_link
from sim.worlds.shared.site.standards import box_endpoint, dialect_of
from sim.worlds.shared.staff.sessions import PageOfPort, SessionPeople
from sim.worlds.virtual.analyzer import SerialCable, VirtualComputer
from sim.worlds.virtual.box import VirtualBox
from sim.worlds.virtual.datacenter import VirtualDataCenter
from sim.worlds.virtual.proxy import VirtualProxy
from sim.worlds.virtual.sessions import VirtualPage, VirtualSessionDesk
from sim.worlds.virtual.site import VirtualSite

EPOCH_NS: Final = calendar.timegm((2026, 1, 5, 0, 0, 0)) * 1_000_000_000
"""Midnight of the Monday on which every lab starts, in ns since 1970; the lab file gives the time of day."""

STATUS_BINS: Final = 20
"""At one in this number of samples, the box's status is kept, for the search for texts about patients."""


class VirtualWorld:
    """One run of one lab; a context manager that ends all tasks and removes the lab's files on exit."""

    name: Name = "virtual"
    replay_options = ""

    def __init__(
        self,
        lab: Lab,
        seed: int | None = None,
        *,
        policy: Policy | None = None,
        keys: LabKeys | None = None,
    ) -> None:
        """`policy` replaces the firewall policy derived from the lab, for tests of wrong policies.

        With elliptic-curve `keys`, a run sends as many bytes as boxes in the field, and is not deterministic.
        """
        self.lab = lab
        self.seed = lab.about.seed if seed is None else seed
        self._folder = tempfile.TemporaryDirectory(prefix="rap-lab-")
        folder = Path(self._folder.name)
        self.loop = SimLoop()
        self.env = self.loop.env
        self.trace = Trace(lambda: self.env.now)
        self.ledger = ReportLedger()
        self.faults = FaultRunner(self, lambda: self.env.now, self.trace, emulated=self)
        self._wall_started = time.perf_counter()
        # A run creates many objects and few cycles: collection after every 700 objects took a tenth of its time
        self._process = ExitStack()
        self._process.callback(gc.set_threshold, *gc.get_threshold())
        gc.set_threshold(100_000, 20, 50)
        self._process.enter_context(workstation(BOX_NAME))

        self._site = site = VirtualSite(self.env, self.wall_ns, self.random, self.trace)
        network = site.network
        self._keys = keys = keys or rsa_keys()
        began = datetime.fromtimestamp(EPOCH_NS // 10**9, UTC)
        certificates = LabCertificates(folder / "pki", began, keys.shared)
        spec = lab.uplink
        triggers = shipped_triggers() if lab.expect.evaluates_triggers else None
        draw_key = drawn_keys(self.random("keys of sessions"))
        self._session_keys = (
            SessionKeys.make(folder / "sessions", make_key=draw_key) if lab.sessions else None
        )
        ordered = ordered_releases(lab.events)
        models = [instrument.model for instrument in lab.instruments]
        releases = (
            LabReleases(folder / "releases", ordered, models, self.wall_ns() / 1e9) if ordered else None
        )
        self.datacenter = VirtualDataCenter(
            self.loop,
            network,
            certificates.datacenter(),
            self.wall_ns,
            self.random,
            triggers,
            self._session_keys,
            releases,
            certificates.vendor_authority() if lab.box.enrolment != "none" else None,
            certificates.siem() if any(event.target == "siem" for event in lab.events) else None,
        )
        self.proxy = (
            VirtualProxy(self.loop, network, spec.proxy, certificates.inspector()) if spec.proxy else None
        )
        self.box = VirtualBox(
            self.loop,
            network,
            lab,
            certificates.box(is_expired=lab.box.enrolment == "expired"),
            client_settings(lab),
            policy or lab_policy(lab),
            self.wall_ns,
            self.random,
            self.trace,
            self._session_keys,
            releases,
            lambda: keys.requested,
        )
        proxy_host = self.proxy.host if self.proxy else None
        self._far = site.connect(lab, self.box.host, proxy_host, self.datacenter.host)
        if self.datacenter.siem is not None:
            site.add_siem(self.datacenter.siem.host, self.datacenter.host)
        self.uplink = site.links["uplink"]
        self.names = site.names
        self.analyzers = {i.port: self._analyzer(certificates, i) for i in lab.instruments}
        self.desktops: dict[str, InstrumentDesktop] = {}
        """The desktops of instruments by target, in a lab with remote sessions."""
        self.people = SessionPeople(self._staff_portal, self._page, lambda: self.env.now, self.trace)
        for number, tcp_port in desktops_by_link(lab).items():
            self._add_desktop(self.instrument(number), tcp_port)
        self.intruders = Intruders(lab, self._run_program)
        self.uplink_meter = UplinkMeter(self.uplink, lab.about.duration, self.trace)
        self.backlog_meter = BacklogMeter()
        self.connection_meter = ConnectionMeter()
        self._statuses: dict[bytes, None] = {}
        """Statuses of the box program, which are searched for texts about patients."""
        if self.ledger.adapted:
            self.datacenter.received = []
        self.loop.run_until_complete(self._start())

    def _analyzer(self, certificates: LabCertificates, spec: LabInstrument) -> Analyzer:
        host = self._site.add_instrument(spec.port, self.box.host)
        clock = EmulClock(self.wall_ns)
        host.wall_ns = clock.now_ns
        return Analyzer(
            Workplace(
                self.env,
                VirtualComputer(self.loop, host),
                spec,
                box_endpoint(spec),
                certificates.instrument(spec.serial, is_expired=spec.enrolment == "expired"),
                clock,
                self.ledger,
                lambda name: self.random(f"{spec.serial} {name}"),
                -self.lab.about.start,
                dialect_of(spec, self.random),
                self._serial_line(spec),
                lambda: self._keys.instrument,
            )
        )

    def _serial_line(self, spec: LabInstrument) -> EmulSerialPort | None:
        """Return the instrument's end of its serial line, which the cable joins to the box's port; None without
        one.
        """
        number = serial_ports(self.lab.instruments, self.lab.board).get(spec.port)
        if number is None:
            return None
        cable = SerialCable(EmulSerialPort(f"{spec.serial} line"), self.box.serial_ports[number])
        self._site.links[f"instrument:{spec.port}"].on_change.append(cable.follow)
        return cable.instrument

    def _add_desktop(self, analyzer: Analyzer, tcp_port: int) -> None:
        """Run a VNC server on the computer of an instrument."""
        assert self.datacenter.sessions is not None
        spec = analyzer.spec
        desktop = InstrumentDesktop(load_profile(spec.model).desktop)
        self.datacenter.sessions.desktops[spec.serial] = self.desktops[f"instrument:{spec.port}"] = desktop
        self.datacenter.sessions.desktop_ports[spec.serial] = spec.port, tcp_port

        async def serve() -> None:
            server = await asyncio.start_server(desktop.serve, instrument_address(spec.port), tcp_port)
            await server.serve_forever()

        analyzer.run(serve)

    def _staff_portal(self) -> VirtualSessionDesk:
        assert self.datacenter.sessions is not None
        return self.datacenter.sessions

    def _page(self, session: LabSession) -> PageOfPort:
        if session.acts_at == "display":
            return self.instrument(session.target).show_sessions()
        port = port_of(session.target) or 0
        return VirtualPage(self.loop, self.box.host, lambda: self.box.sessions, port)

    def session_findings(self) -> SessionFindings:
        """See `sim.worlds.shared.conclusion.ConcludedWorld`."""
        keys, sessions = self._session_keys, self.datacenter.sessions
        if keys is None or sessions is None:
            return SessionFindings()
        files, store = (sessions.audit_file, self.box.session_audit), self.datacenter.store
        audits = keys.audits(*files, store, by_monotonic_clocks(0))
        return audits.read(self.people.requested)

    def siem_received(self) -> Sequence[str]:
        """See `sim.worlds.shared.conclusion.ConcludedWorld`."""
        return self.datacenter.siem.received if self.datacenter.siem else ()

    def outgoing(self) -> Iterator[tuple[str, bytes]]:
        """See `sim.worlds.shared.conclusion.ConcludedWorld`."""
        yield from (("uplink", data) for data in self.datacenter.received or ())
        yield from (("database", data) for data in rows(self.datacenter.store))
        disk = self.box.disk
        yield from (("disk", disk.read(name, 0, disk.size(name))) for name in disk.names())
        yield "log", "\n".join([*self.box.log, *self.failures]).encode()
        yield from (("status", data) for data in self._statuses)

    def _run_program(self, target: str, program: Callable[[], Coroutine[Any, Any, None]]) -> End:
        if target != "uplink":
            return self.instrument(target).run(program)
        task = VirtualComputer(self.loop, self._far).start(program())

        def end() -> None:
            task.cancel()

        return end

    def random(self, name: str) -> Random:
        """Return a random stream derived from the seed and `name`."""
        return stream(self.seed, name)

    def wall_ns(self) -> int:
        """Return the true wall-clock time, in nanoseconds since 1970."""
        return EPOCH_NS + self.lab.about.start + self.env.now

    @property
    def failures(self) -> list[str]:
        """Descriptions of the exceptions that no program handled."""
        return self.loop.failures

    async def _start(self) -> None:
        await self.datacenter.start(BOX_SERIAL)
        if self.proxy:
            await self.proxy.start()
        self.uplink.on_change.append(self.box.uplink_changed)
        self.box.boot()
        for event in self.lab.events:
            self.loop.create_task(self.faults.run_event(event))
        for order in self.lab.orders:
            self.loop.create_task(self.faults.run_order(order, self.lab.serial(order.target)))
        for session in self.lab.sessions:
            self.loop.create_task(self.people.run(session, self.lab.serial(session.target)))
        self.loop.create_task(self._sample())

    async def _sample(self) -> None:
        while True:
            backlog = await self.backlog()
            self.backlog_meter.sample(self.env.now, backlog, connected=self.box.is_connected)
            self.connection_meter.sample(self.box.instrument_connections())
            if self.ledger.adapted and len(self.backlog_meter.samples) % STATUS_BINS == 0:
                self._statuses[repr(await self.box.status()).encode()] = None
            await asyncio.sleep(self.uplink_meter.bin_ns / 1e9)

    async def backlog(self) -> tuple[int, int, int] | None:
        """Return the unacknowledged (alert, audit, routine) records on the box; None while its program does not
        run.
        """
        records = await self.box.backlog()
        if records is None:
            return None
        return records[Priority.ALERT], records[Priority.AUDIT], records[Priority.ROUTINE]

    # -- faults

    async def change_address(self, target: str) -> None:
        """See `sim.faults.world.World`."""
        if target == "uplink":
            self.box.host.change_address(self.uplink)
        else:
            self.datacenter.change_address()

    def link(self, target: str) -> Link:
        """Return the link of a target: `uplink` or `instrument:<port>`."""
        return self._site.links[target]

    def instrument(self, target: str) -> Analyzer:
        """Return the instrument of a target `instrument:<port>`."""
        return self.analyzers[int(target.partition(":")[2])]

    def order_update(self) -> None:
        """See `sim.faults.world.MachineWorld`."""
        self.datacenter.order_update()

    def freeze_desktop(self, target: str) -> End:
        """See `sim.faults.world.EmulatedWorld`."""
        return self.desktops.setdefault(target, InstrumentDesktop()).freeze()

    # -- running

    def run_until(self, until_ns: int) -> None:
        """Run the lab until a lab time in ns."""
        self.loop.run_for(until_ns - self.env.now)

    def run(self, progress: Callable[[int], None] = lambda _now_ns: None, steps: int = 200) -> Result:
        """Run the lab to its end and evaluate it; `progress` is called with the lab time in ns `steps` times."""
        duration = self.lab.about.duration
        for step in range(1, steps + 1):
            self.run_until(duration * step // steps)
            progress(self.env.now)
        return self.finish()

    def finish(self) -> Result:
        """End the lab now: cut the box's power, read its disk and the data center's database, and evaluate."""
        self.faults.closed = True
        return conclude(self, time.perf_counter() - self._wall_started)

    def __enter__(self) -> VirtualWorld:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all tasks, and remove the lab's files. Raises: Stalled if tasks do not end."""
        try:
            self.loop.run_until_complete(self._end_tasks())
        finally:
            self.datacenter.store.close()
            self.loop.close()
            self._folder.cleanup()
            self._process.close()

    async def _end_tasks(self) -> None:
        own = asyncio.current_task()
        await self.loop.end_tasks(lambda: [task for task in asyncio.all_tasks() if task is not own])
