"""The box: a spool, a collector at each instrument port, a forwarder, and the wires between them.

It starts unattended after any crash: what the spool kept is all the state there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Final, TypeAlias

from agents.box.buffer import Buffer
from agents.box.clock_sync import ClockSync, ServerTime, ask_data_center
from agents.box.commands import CommandDispatcher, CommandQueue
from agents.box.config import BoxConfig, InstrumentPort
from agents.box.firewall import FirewallGuard, FirewallService, FirewallStatus, Say
from agents.box.health.alarm import AlarmLed
from agents.box.health.audit import GAP_RANGES_MAX, AuditLog, encode_gap
from agents.box.health.bounds import box_bounds
from agents.box.health.certificates import OwnCertificate
from agents.box.health.spoolwatch import DiskSpace, watch_spool
from agents.box.health.supervision import keep_running
from agents.box.health.watchdog import feed_while_well
from agents.box.intake.collector import Collector
from agents.box.intake.refusal import watch_refusals
from agents.box.state import SNAPSHOT_BYTES_MAX, BoxState
from agents.box.uplink.forwarder import Forwarder
from agents.box.uplink.stream import Timing
from agents.box.uplink.trust import TrustDiagnosis, TrustProblem
from agents.spool import Priority, Spool, SpoolLimits, SpoolStatus
from hal.clock import WallClock
from hal.disk import Disk
from hal.ethernet import EthernetPort
from hal.indicators import Indicators
from hal.watchdog import Watchdog
from wire.audit_events import AuditEvent
from wire.dial.accounting import Traffic
from wire.dial.dialer import DIAL_PATIENCE_MAX
from wire.dial.patience import Patience
from wire.dial.probe import probe
from wire.http.connection import Server
from wire.messages import Command
from wire.process.bounds import LOOK_SECONDS, Bound, Bounds, Level
from wire.tls.context import sessions_kept, undated_client_context
from wire.tls.identity import Inspection
from wire.tls.peer import valid_from
from wire.tls.revocation import CrlError, RevocationList
from wire.vocabulary import Outcome

PORT_RETRY_SECONDS: Final = 5.0
"""When to try again to listen on a port whose address is not there yet."""

Served: TypeAlias = Callable[[int, int], object]
"""Takes the number of an instrument port and the TCP port it is served on."""


def _tell_nobody(*_what: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a box is made of. `executor` runs the disk's calls one at a time; without one the box has a thread.

    `firewall` and `watchdog` are there if the configuration has [firewall] and [watchdog]. `bounds` are those of the
    process, and `disk_space` is called on the thread of the disk.
    """

    disk: Disk
    clock: WallClock
    uplink: EthernetPort
    executor: Executor | None = None
    firewall: FirewallService | None = None
    indicators: Indicators | None = None
    watchdog: Watchdog | None = None
    built_s: float = 0.0
    """When the machine's software was built, in seconds since 1970: a time that has passed for certain."""
    bounds: tuple[Bound, ...] = ()
    disk_space: DiskSpace | None = None


@dataclass(frozen=True, slots=True)
class BoxStatus:
    """A running box at one moment."""

    spool: SpoolStatus
    traffic: Traffic
    is_connected: bool
    reports_accepted: int
    reports_repeated: int
    firewall: FirewallStatus | None
    """None if the box has none to look after."""
    certificate: Inspection
    levels: tuple[Level, ...]
    """Of what is bounded, when it was last looked at."""
    spool_problem: str
    """Why the spool takes no records; empty if it does."""
    trust: TrustProblem | None
    """Why the data center's certificate is not trusted."""


class Box:
    """One life of a box. `run` it; `tcp_ports` then says where each instrument port is served."""

    def __init__(
        self,
        config: BoxConfig,
        hardware: Hardware,
        random: Random,
        served: Served = _tell_nobody,
        say: Say = _tell_nobody,
    ) -> None:
        """Reads the certificates. Raises OSError, ssl.SSLError or CrlError for unusable ones.

        `served` is called when instruments can connect at a port, `say` with what a person beside it should know.
        """
        assert (config.firewall is None) == (hardware.firewall is None)
        assert (config.watchdog is None) == (hardware.watchdog is None)
        self._config, self._hardware, self._random = config, hardware, random
        self._served, self._say = served, say
        self._certificate = OwnCertificate(config.identity, hardware.clock)
        self._alarm = AlarmLed(hardware.indicators)
        self._servers: dict[int, Server] = {}
        self._revocations = revocation_list(config)
        self._is_list_expired = False
        self._state = BoxState()
        self._time_patience = Patience(DIAL_PATIENCE_MAX)
        self._running: _Running | None = None
        self.tcp_ports: dict[int, int] = {}
        self.doing = "starting"
        """For whoever waits for the program's end."""

    async def run(self) -> None:
        """Collect and forward until cancelled, then close cleanly. Raises: SpoolError IO if there is no disk."""
        guard = self._guard()
        self.doing = "opening the spool"
        spool = await self._open_spool()
        buffer = Buffer(spool, self._hardware.executor)
        try:
            self.doing = "at work"
            self._running = running = self._assemble(buffer, guard)
            running.audit.note(await self._how_it_starts(spool, buffer))
            self._note_files_left_alone(spool.recovery.foreign_files, running.audit)
            await self._live(running)
        finally:
            self._running = None
            self.doing = "closing the spool"
            await buffer.close()
            self.doing = "closed"

    async def _live(self, running: _Running) -> None:
        config, watchdog = self._config, self._hardware.watchdog
        work = partial(self._work, running)
        async with asyncio.TaskGroup() as tasks:
            watch = partial(watch_spool, running.buffer, running.bounds, self._hardware.disk_space)
            tasks.create_task(self._keep("spool-watch", watch, running))
            show = self._alarm.used_by("spool")
            watch = partial(watch_refusals, running.buffer, running.audit, show, self._say)
            tasks.create_task(self._keep("spool-refusals", watch, running))
            tasks.create_task(self._keep("bounds", partial(_watch_bounds, running.bounds), running))
            if config.watchdog and watchdog:
                feed = partial(
                    feed_while_well, watchdog, config.watchdog.timeout_s, running.buffer, running.audit
                )
                tasks.create_task(self._keep("watchdog", feed, running))
            watch = partial(self._certificate.watch, running.audit, self._alarm.used_by("certificate"))
            tasks.create_task(self._keep("certificate", watch, running))
            if running.guard:
                guard = partial(running.guard.guard, running.audit, work)
                tasks.create_task(self._keep("firewall", guard, running))
            else:
                tasks.create_task(work())

    async def _work(self, running: _Running) -> None:
        """Collect and forward."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep("forwarder", running.forwarder.run, running))
            tasks.create_task(self._keep("commands", running.commands.run, running))
            for port in self._config.port:
                serve = partial(self._serve, running, port)
                tasks.create_task(self._keep("port", serve, running, port.number))

    def refresh_certificates(self, *, at_once: bool = False) -> None:
        """Use the certificate's files for new connections if they have changed, and are complete and right.

        To be called now and then; `at_once` does not wait to see whether the files are still being written.
        """
        running = self._running
        if running is not None:
            self._refresh_revocations(running.audit)
        if running is None or not (event := self._certificate.refresh(at_once=at_once)):
            return
        running.audit.note(event)
        self._certificate.note(running.audit, self._alarm.used_by("certificate"))
        running.forwarder.use(self._certificate.client_tls)
        for server in self._servers.values():
            server.use(self._certificate.server_tls)

    def _refresh_revocations(self, audit: AuditLog) -> None:
        if self._revocations is None:
            return
        try:
            if self._revocations.refresh():
                audit.note(AuditEvent.REVOCATIONS_CHANGED)
        except (CrlError, OSError):
            audit.note(AuditEvent.REVOCATIONS_UNUSABLE)
        is_expired = self._revocations.expires_s < self._hardware.clock.now_ns() / 1e9
        if is_expired and not self._is_list_expired:
            audit.note(AuditEvent.REVOCATIONS_EXPIRED)  # the list stays in force
        self._is_list_expired = is_expired

    def _keep(
        self, name: str, part: Callable[[], Awaitable[None]], running: _Running, port: int = 0
    ) -> Coroutine[Any, Any, None]:
        return keep_running(name, part, running.audit, self._random, port=port)

    @property
    def traffic(self) -> Traffic:
        """What the uplink has cost in this life until now."""
        return Traffic() if self._running is None else self._running.forwarder.traffic

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the data center, as far as anybody can know."""
        return self._running is not None and self._running.forwarder.is_connected

    async def backlog(self) -> Mapping[Priority, int] | None:
        """Records that are not acknowledged, by priority; None before the spool is open."""
        return (await self._running.buffer.status()).records if self._running else None

    async def status(self) -> BoxStatus | None:
        """How it is; None before the spool is open."""
        running = self._running
        if running is None:
            return None
        return BoxStatus(
            await running.buffer.status(),
            running.forwarder.traffic,
            running.forwarder.is_connected,
            running.collector.accepted,
            running.collector.repeated,
            running.guard.status() if running.guard else None,
            self._certificate.inspect(),
            running.bounds.levels,
            str(running.buffer.problem or ""),
            running.trust.problem,
        )

    def _guard(self) -> FirewallGuard | None:
        hardware = self._hardware
        if hardware.firewall is None:
            return None
        return FirewallGuard(hardware.firewall, self._alarm.used_by("firewall"), self._say)

    async def _open_spool(self) -> Spool:
        hardware = self._hardware
        limits = SpoolLimits(
            spool_bytes_max=self._config.spool.bytes_max,
            gap_ranges_max=GAP_RANGES_MAX,
            snapshot_bytes_max=SNAPSHOT_BYTES_MAX,
        )

        def open_spool() -> Spool:
            spool = Spool.open(
                hardware.disk,
                limits,
                random=self._random,
                encode_gap=partial(encode_gap, clock=hardware.clock),
                snapshot=self._state.snapshot,
            )
            self._state.restore(spool.recovery, set(self._config.enrolled()))
            return spool

        return await asyncio.get_running_loop().run_in_executor(hardware.executor, open_spool)

    def _note_files_left_alone(self, files: int, audit: AuditLog) -> None:
        if files:
            audit.note(AuditEvent.SPOOL_FILES_LEFT_ALONE, files)
            self._say(
                f"spool: {files} files of another spool or of a newer program version are left as they are"
            )

    async def _how_it_starts(self, spool: Spool, buffer: Buffer) -> AuditEvent:
        is_new = (await buffer.status()).next_seq == 1
        return AuditEvent.STARTED if is_new or spool.recovery.was_closed else AuditEvent.STARTED_AFTER_CRASH

    def _assemble(self, buffer: Buffer, guard: FirewallGuard | None) -> _Running:
        audit = AuditLog(buffer, self._hardware.clock)
        enrolled = self._config.enrolled()
        desks = {name: CommandQueue(self._state.history(name)) for name in ("", *enrolled)}
        commands = CommandDispatcher(desks, {"send-inventory": partial(_note_backlog, buffer, audit)}, audit)
        collector = Collector(buffer, self._state.marks, commands, audit.note, enrolled)
        datacenter = self._config.datacenter
        clock_sync = ClockSync(
            self._hardware.clock,
            self._state,
            max(self._hardware.built_s, valid_from(self._config.identity.certificate)),
            audit,
            self._ask_time,
            may_set=self._config.clock.service is not None,
        )
        clock_sync.start()
        trust = TrustDiagnosis(
            datacenter.host,
            partial(probe, datacenter, self._config.proxy),
            audit,
            self._alarm.used_by("trust"),
            self._say,
        )
        forwarder = Forwarder(
            buffer,
            datacenter,
            self._certificate.client_tls,
            proxy=self._config.proxy,
            uplink=self._hardware.uplink,
            audit=audit,
            on_commands=commands.arrived,
            random=self._random,
            timing=Timing(self._config.sending.linger_s, self._config.sending.heartbeat_s),
            clock=self._hardware.clock,
            clock_sync=clock_sync,
            trust=trust,
        )
        bounds = box_bounds(audit, self._alarm.used_by("bounds"))
        bounds.add(
            *self._hardware.bounds,
            Bound("tls-sessions", lambda: sessions_kept(self._certificate.server_tls)),
            Bound("commands", commands.fullest),
            Bound("given-up", forwarder.given_up),
            *collector.bounds(),
        )
        if self._revocations is not None:
            bounds.add(*self._revocations.bounds(lambda: self._hardware.clock.now_ns() / 1e9))
        if guard is not None:
            bounds.add(Bound("conntrack", partial(guard.limit, "conntrack")))
        collector.port_is_filling = bounds.look
        return _Running(buffer, audit, collector, forwarder, commands, guard, bounds, trust)

    async def _ask_time(self) -> ServerTime:
        config = self._config
        tls = undated_client_context(config.identity.towards_datacenter())
        return await ask_data_center(config.datacenter, tls, config.proxy, self._time_patience)

    async def _serve(self, running: _Running, port: InstrumentPort) -> None:
        clock = self._hardware.clock
        while True:
            try:
                server = await running.collector.listen(
                    port.number,
                    port.listen,
                    port.tcp_port,
                    self._certificate.server_tls,
                    lambda: clock.now_ns() / 1e9,
                    self._revocations,
                )
                break
            except OSError:
                running.audit.note(AuditEvent.PORT_NOT_SERVED, port=port.number)
                await asyncio.sleep(PORT_RETRY_SECONDS)
        self.tcp_ports[port.number], self._servers[port.number] = server.port, server
        connections = Bound("connections", server.filling, port.number)
        running.bounds.add(connections)
        self._served(port.number, server.port)
        try:
            await asyncio.Event().wait()
        finally:
            self.tcp_ports.pop(port.number, None)
            self._servers.pop(port.number, None)
            running.bounds.remove(connections)
            await server.close()


@dataclass(frozen=True, slots=True)
class _Running:
    """The parts of a running box."""

    buffer: Buffer
    audit: AuditLog
    collector: Collector
    forwarder: Forwarder
    commands: CommandDispatcher
    guard: FirewallGuard | None
    bounds: Bounds
    trust: TrustDiagnosis


async def _watch_bounds(bounds: Bounds) -> None:
    while True:
        bounds.look()
        await asyncio.sleep(LOOK_SECONDS)


async def _note_backlog(buffer: Buffer, audit: AuditLog, _command: Command) -> Outcome:
    """`send-inventory` to the box itself: what waits, by priority."""
    for priority, records in (await buffer.status()).records.items():
        audit.note(AuditEvent(f"backlog-{priority.name.lower()}"), records, unlimited=True)
    return "done"


def revocation_list(config: BoxConfig) -> RevocationList | None:
    """The revoked certificates of instruments, if the configuration names a list. Raises CrlError, OSError."""
    if config.revocation is None:
        return None
    return RevocationList(config.revocation.list, config.identity.vendor_authority)
