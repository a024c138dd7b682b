"""The box: assembles and runs the spool, a collector at each instrument port, the forwarder and the monitoring.

It starts unattended after any crash: its persistent state is in the spool and in files beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any, Final, TypeAlias, TypeVar

from agents.box.audit_work import make_audit_work
from agents.box.buffer import Buffer
from agents.box.clock_sync import ClockSync, ServerTime, ask_data_center
from agents.box.commands import CommandDispatcher, CommandQueue
from agents.box.configuration.config import BoxConfig, InstrumentPort
from agents.box.files.requests import RequestQueue, RequestQueues
from agents.box.files.serving import FileServing
from agents.box.files.store import BoxFiles
from agents.box.files.transfers import FileTransfers
from agents.box.firewall import FirewallGuard, LogMessage
from agents.box.hardware import Hardware as Hardware
from agents.box.health.alarm import AlarmLed
from agents.box.health.audit import AuditLog, note_backlog, now_ms
from agents.box.health.bounds import box_bounds, watch_bounds
from agents.box.health.certificates import OwnCertificate
from agents.box.health.spoolwatch import watch_spool
from agents.box.health.supervision import keep_running
from agents.box.health.watchdog import feed_while_healthy
from agents.box.intake.adapter import close, listen
from agents.box.intake.certificate_relay import CertificateRelay
from agents.box.intake.collector import Collector
from agents.box.intake.command_results import attend_commands
from agents.box.intake.counts import port_status, record_counts
from agents.box.intake.denied import DeniedInstruments
from agents.box.intake.intake import Intake, Source
from agents.box.intake.refusal import watch_refusals
from agents.box.intake.roles import role_of
from agents.box.parts import RunningParts
from agents.box.released.released_data import ReleasedData
from agents.box.sessions.instrument_panel import InstrumentPanels
from agents.box.sessions.path import FirewallPath
from agents.box.sessions.running import RunningSessions, serial_of, session_instruments
from agents.box.sessions.sessions import BoxSessions
from agents.box.start import open_spool, start_event
from agents.box.state import BoxState
from agents.box.status.snapshot import BoxStatus
from agents.box.updates.health import program_health
from agents.box.updates.surroundings import UpdateSurroundings
from agents.box.updates.updater import Updater
from agents.box.uplink.certificate_requests import CertificateRequests
from agents.box.uplink.forwarder import Forwarder
from agents.box.uplink.trust import TrustDiagnosis
from agents.enrolment.certificate_files import BoxCertificates
from agents.enrolment.records import IdentityRecords
from agents.enrolment.renewal import ProvenConnection, Renewal
from agents.spool import Priority
from hal.disk import DiskError
from settings.adapted import AdaptedPort, listening_port
from wire.audit_events import AuditEvent
from wire.dial.adaptive_timeout import AdaptiveTimeout
from wire.dial.dialer import DIAL_TIMEOUT_FACTOR_MAX
from wire.dial.probe import probe
from wire.dial.traffic import Traffic
from wire.http.connection import ClientConnection, Server
from wire.pki.signature import SignatureError
from wire.process.bounds import Bound
from wire.tls.context import ClientContext, client_context_ignoring_dates, sessions_kept
from wire.tls.peer import valid_from
from wire.tls.revocation import CrlError, RevocationList

T = TypeVar("T")
PORT_RETRY_SECONDS: Final = 5.0
"""Pause before listening again on a port whose address is not configured yet."""

OnServed: TypeAlias = Callable[[int, int], object]
"""Called with the number of an instrument port and its TCP port (0: a serial line) when instruments can connect."""


def ignore(*_arguments: object) -> None:
    """Do nothing: for unused callbacks."""


class Box:
    """A box, from its start to its end. While `run` runs, `tcp_ports` maps instrument ports to TCP ports."""

    def __init__(
        self,
        config: BoxConfig,
        hardware: Hardware,
        random: Random,
        on_served: OnServed = ignore,
        log_message: LogMessage = ignore,
    ) -> None:
        """Read the certificates. Raises: OSError, ssl.SSLError or CrlError for unusable ones.

        `on_served` is called when instruments can connect to a port, `log_message` with messages for the operator.
        """
        assert (config.firewall is None) == (hardware.firewall is None)
        assert (config.watchdog is None) == (hardware.watchdog is None)
        assert (config.audit is None) == (hardware.audit_log is None)
        self._config, self._hardware, self._random = config, hardware, random
        self._on_served, self._log_message = on_served, log_message
        is_relay = config.enrolment is not None
        self._certificate = OwnCertificate(config.identity, hardware.clock, checks_dates=not is_relay)
        self._alarm = AlarmLed(hardware.indicators)
        self._servers: dict[int, Server] = {}
        revocation, authority = config.revocation, config.identity.vendor_authority
        self._revocations = RevocationList(revocation.list, authority) if revocation else None
        self._is_list_expired = False
        self._state = BoxState()
        self._files = BoxFiles(hardware.disk)
        self._released = ReleasedData(config, hardware.disk, self._files)
        self._profiles = self._released.profiles
        self._time_dial_timeout = AdaptiveTimeout(DIAL_TIMEOUT_FACTOR_MAX)
        self._running: RunningParts | None = None
        self._renewal: Renewal | None = None
        self._own_requests = CertificateRequests()
        self._session_listeners: list[Callable[[], object]] = []
        self.tcp_ports: dict[int, int] = {}
        self._served: set[int] = set()  # the numbers of the ports at which instruments can connect
        self.activity = "starting"
        """The current phase, for the message if the program does not stop in time."""

    async def run(self) -> None:
        """Collect and forward until cancelled, then close cleanly. Raises: SpoolError IO if the disk is unusable."""
        guard = self._guard()
        self.activity = "opening the spool"
        spool = await open_spool(
            self._config, self._hardware, self._random, self._state, self._files, self._released
        )
        buffer = Buffer(spool, self._hardware.executor)
        try:
            self.activity = "running"
            await self._load_identity()
            self._running = running = self._assemble(buffer, guard)
            running.audit.note(await start_event(spool, buffer))
            if self._hardware.fips is not None:
                running.audit.note(AuditEvent.FIPS_IN_FORCE)
            self._note_foreign_files(spool.recovery.foreign_files, running.audit)
            if running.collector.denied is not None:
                await running.collector.denied.load()
            await self._released.begin(running.audit, self._state, self._log_message)
            await self._run_parts(running)
        finally:
            if self._renewal is not None:
                self._renewal.close()
            self.activity = "closing the spool"
            if self._running is not None:
                await self._running.audit.chain.close()
            self._running = None
            await buffer.close()
            self.activity = "closed"

    async def _run_parts(self, running: RunningParts) -> None:
        config, watchdog = self._config, self._hardware.watchdog
        work = partial(self._work, running)
        async with asyncio.TaskGroup() as tasks:
            watch = partial(watch_spool, running.buffer, running.bounds, self._hardware.disk_space)
            tasks.create_task(self._supervise("spool-watch", watch, running))
            show = self._alarm.used_by("spool")
            watch = partial(watch_refusals, running.buffer, running.audit, show, self._log_message)
            tasks.create_task(self._supervise("spool-refusals", watch, running))
            tasks.create_task(self._supervise("bounds", partial(watch_bounds, running.bounds), running))
            if config.watchdog and watchdog:
                feed = partial(
                    feed_while_healthy, watchdog, config.watchdog.timeout_s, running.buffer, running.audit
                )
                tasks.create_task(self._supervise("watchdog", feed, running))
            watch = partial(self._certificate.watch, running.audit, self._alarm.used_by("certificate"))
            tasks.create_task(self._supervise("certificate", watch, running))
            if running.audit_work:
                tasks.create_task(self._supervise("audit-log", running.audit_work.run, running))
            if running.updater:
                tasks.create_task(self._supervise("updates", running.updater.run, running))
            if running.sessions:
                tasks.create_task(self._supervise("sessions", running.sessions.run, running))
            if self._renewal is not None:
                renew = partial(
                    self._renewal.run, running.forwarder.connect, self._use_identity, running.audit
                )
                tasks.create_task(self._supervise("renewal", renew, running))
            if running.guard:
                guard = partial(running.guard.guard, running.audit, work)
                tasks.create_task(self._supervise("firewall", guard, running))
            else:
                tasks.create_task(work())

    async def _work(self, running: RunningParts) -> None:
        """Serve the instrument ports, forward records and execute commands, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            forward = running.forwarder.run
            if self._renewal is not None:
                forward = partial(self._renewal.precede, forward)
            tasks.create_task(self._supervise("forwarder", forward, running))
            tasks.create_task(self._supervise("commands", running.commands.run, running))
            if adapted := self._adapted(running):
                record = partial(record_counts, adapted, running.audit.note)
                tasks.create_task(self._supervise("counts", record, running))
            for port in self._config.port:
                serve = partial(self._serve, running, port)
                tasks.create_task(self._supervise("port", serve, running, port.number))

    def refresh_certificates(self, *, at_once: bool = False) -> None:
        """Use changed certificate files for new connections, if they are complete and valid.

        Call it periodically. With `at_once`, files are used even if they are possibly still being written.
        """
        running = self._running
        if running is not None:
            self._refresh_revocations(running.audit)
        if running is None or not (event := self._certificate.refresh(at_once=at_once)):
            return
        running.audit.note(event)
        self._use_certificate(running)

    def _use_certificate(self, running: RunningParts) -> None:
        """Use the certificate's contexts for new connections."""
        self._certificate.note(running.audit, self._alarm.used_by("certificate"))
        running.forwarder.use(self._certificate.client_tls)
        for server in self._servers.values():
            server.use(self._certificate.server_tls)
        if running.sessions is not None:
            try:
                running.sessions.use(self._certificate.files)
            except (OSError, SignatureError) as error:
                self._log_message(f"remote sessions keep the key of the earlier certificate: {error}")

    async def _load_identity(self) -> None:
        """Use the newest identity that the box has requested by enrolment, if there is one."""
        config, hardware = self._config, self._hardware
        if config.enrolment is None:
            return
        self._renewal = Renewal(
            serial_of(config.identity.certificate),
            config.identity,
            IdentityRecords(hardware.disk),
            hardware.executor,
            hardware.clock,
            self._random,
            hardware.make_key,
            self._own_requests.ask_est,
        )
        with suppress(DiskError):  # the spool reports a failed disk
            self._certificate.switch(await self._renewal.load())

    def _use_identity(self, files: BoxCertificates, proven: ProvenConnection | None = None) -> ClientContext:
        """Use new certificate files, with the connection `proven` or a new one. Raises: OSError, ssl.SSLError."""
        running = self._running
        assert running is not None, "the renewal is one of the running parts"
        self._certificate.switch(files, proven.tls if proven else None)
        self._use_certificate(running)
        running.forwarder.reconnect(proven.connection if proven else None)
        return self._certificate.client_tls

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
            audit.note(AuditEvent.REVOCATIONS_EXPIRED)  # the expired list remains in use
        self._is_list_expired = is_expired

    def _supervise(
        self, name: str, part: Callable[[], Awaitable[None]], running: RunningParts, port: int = 0
    ) -> Coroutine[Any, Any, None]:
        return keep_running(name, part, running.audit, self._random, port=port)

    @property
    def traffic(self) -> Traffic:
        """Traffic on the uplink since the start."""
        return Traffic() if self._running is None else self._running.forwarder.traffic

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the data center that is not known to be broken."""
        return self._running is not None and self._running.forwarder.is_connected

    def on_sessions_changed(self, changed: Callable[[], object]) -> None:
        """Call `changed` whenever the state of the remote sessions changes."""
        self._session_listeners.append(changed)

    @property
    def sessions(self) -> BoxSessions | None:
        """The remote sessions; None while the box refuses them all."""
        running = self._running
        return running.sessions.sessions if running and running.sessions else None

    async def backlog(self) -> Mapping[Priority, int] | None:
        """Return records that are not acknowledged, by priority; None before the spool is open."""
        return (await self._running.buffer.status()).records if self._running else None

    async def status(self) -> BoxStatus | None:
        """Return the current status; None before the spool is open."""
        running = self._running
        if running is None:
            return None
        return BoxStatus(
            await running.buffer.status(),
            running.forwarder.traffic,
            running.forwarder.is_connected,
            running.intake.accepted,
            running.intake.repeated,
            running.guard.status() if running.guard else None,
            self._certificate.inspect(),
            running.bounds.levels,
            str(running.buffer.problem or ""),
            running.trust.problem,
            tuple(
                port_status(source, asyncio.get_running_loop().time()) for source in self._adapted(running)
            ),
            running.updater.status if running.updater else None,
            self._hardware.fips,
            running.audit_work.status if running.audit_work else None,
        )

    def _adapted(self, running: RunningParts) -> list[Source]:
        """Return the instruments that speak their own standard."""
        return [running.intake.sources[serial] for serial in sorted(self._config.adapted())]

    def _guard(self) -> FirewallGuard | None:
        hardware = self._hardware
        if hardware.firewall is None:
            return None
        return FirewallGuard(hardware.firewall, self._alarm.used_by("firewall"), self._log_message)

    def _note_foreign_files(self, files: int, audit: AuditLog) -> None:
        if files:
            audit.note(AuditEvent.SPOOL_FILES_LEFT_ALONE, files)
            self._log_message(f"spool: ignoring {files} files of another spool or of a newer program version")

    def _assemble(self, buffer: Buffer, guard: FirewallGuard | None) -> RunningParts:
        audit = AuditLog(buffer, self._hardware.clock, self._state.audit_head)
        enrolled = self._config.enrolled()
        agents = set(enrolled) - self._config.adapted()
        queues = {
            name: CommandQueue(self._state.history(name), has_agent=name in agents)
            for name in ("", *enrolled)
        }
        commands = CommandDispatcher(queues, {"send-inventory": partial(note_backlog, buffer, audit)}, audit)
        clock, allowed = self._hardware.clock, self._profiles.allowed
        intake = Intake(buffer, self._state, commands, audit.note, enrolled, allowed, partial(now_ms, clock))
        self._profiles.on_change.append(intake.use)
        transfers = FileTransfers(self._files, buffer, commands)
        panels = InstrumentPanels(lambda: self.sessions)
        self.on_sessions_changed(panels.changed)
        collector = Collector(intake, audit.note, FileServing(self._files, transfers), panels)
        datacenter = self._config.datacenter
        clock_sync = ClockSync(
            self._hardware.clock,
            self._state,
            max(self._hardware.built_s, valid_from(self._certificate.files.certificate)),
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
            self._log_message,
        )
        sessions = self._make_sessions(guard)
        if guard is not None and sessions is not None:
            guard.paths_lost = sessions.fence_lost
        ports = {port.number for port in self._config.port}
        check_health = partial(program_health, guard, buffer, lambda: self._served >= ports)
        updater = self._make_updater(buffer, audit, transfers, check_health, intake)
        audit_work = make_audit_work(self._config, self._hardware, self._state, audit, buffer)
        renewal = self._renewal
        queues_of_requests: list[RequestQueue] = [transfers, *(audit_work.requests if audit_work else ())]
        if renewal is not None:
            relayed = CertificateRequests()
            queues_of_requests = [self._own_requests, relayed, *queues_of_requests]
            collector.relay = CertificateRelay(relayed, audit.note, clock)
            collector.denied = DeniedInstruments(self._hardware.disk, buffer, enrolled, audit.note)
        if updater is not None:
            transfers.also_needed = updater.needed_files
            queues_of_requests.append(updater.requests)
        forwarder = Forwarder(
            buffer,
            datacenter,
            self._certificate.client_tls,
            proxy=self._config.proxy,
            uplink=self._hardware.uplink,
            audit=audit,
            on_commands=commands.arrived,
            on_withdrawn=commands.withdraw,
            on_sessions=sessions.wake if sessions else ignore,
            on_updates=updater.wake if updater else ignore,
            on_denied=collector.denied.use if collector.denied else ignore,
            random=self._random,
            timing=self._released.timing,
            clock=self._hardware.clock,
            clock_sync=clock_sync,
            trust=trust,
            requests=RequestQueues(*queues_of_requests),
            on_established=renewal.answered if renewal else ignore,
        )
        bounds = box_bounds(audit, self._alarm.used_by("bounds"))
        bounds.add(
            *self._hardware.bounds,
            Bound("tls-sessions", lambda: sessions_kept(self._certificate.server_tls)),
            Bound("commands", commands.fullest),
            Bound("given-up", forwarder.discards),
            *intake.bounds(),
        )
        if self._revocations is not None:
            bounds.add(*self._revocations.bounds(lambda: self._hardware.clock.now_ns() / 1e9))
        if guard is not None:
            bounds.add(Bound("conntrack", partial(guard.limit, "conntrack")))
        collector.on_port_filling = bounds.check
        return RunningParts(
            buffer,
            audit,
            intake,
            collector,
            forwarder,
            commands,
            guard,
            bounds,
            trust,
            sessions,
            updater,
            audit_work,
        )

    def _make_updater(
        self,
        buffer: Buffer,
        audit: AuditLog,
        transfers: FileTransfers,
        check_health: Callable[[], str],
        intake: Intake,
    ) -> Updater | None:
        hardware, settings = self._hardware, self._config.updates
        if settings is None or hardware.updates is None:
            return None
        earliest_s = max(hardware.built_s, valid_from(self._config.identity.certificate))
        surroundings = UpdateSurroundings(
            now_s=lambda: hardware.clock.now_ns() / 1e9,
            time_floor_s=lambda: max(earliest_s, self._state.confirmed_s),
            health=check_health,
            may_restart=lambda: (
                not (self.sessions and self.sessions.is_live) and not intake.forbids_restart()
            ),
            record=audit.record_update,
            call=buffer.call,
            needed_files=transfers.needed,
            log_message=self._log_message,
            data=self._released,
        )
        root, files = settings.root.read_bytes(), self._released.files
        return Updater(hardware.updates, hardware.disk, self._files, root, surroundings, files)

    def _make_sessions(self, guard: FirewallGuard | None) -> RunningSessions | None:
        config, hardware = self._config, self._hardware
        if config.sessions is None or hardware.sessions is None:
            return None
        settings = config.sessions
        instruments = session_instruments(
            config, {serial: each.profile for serial, each in self._profiles.allowed.items()}
        )
        path = hardware.sessions.path
        if path is None:
            assert hardware.firewall is not None and guard is not None, "`check_box` requires [firewall]"
            path = FirewallPath(
                hardware.firewall, guard, lambda offer: instruments[offer.instrument].paths(offer, settings)
            )
        sessions = RunningSessions(
            self._certificate.files,
            config.sessions,
            hardware.sessions,
            path,
            instruments,
            dial=self._dial_for_sessions,
            clock=hardware.clock,
            random=self._random,
            executor=hardware.executor,
            log_unusable=self._session_log_unusable,
            listeners=self._session_listeners,
        )
        self._profiles.on_change.append(lambda serial, new: sessions.use_profile(serial, new.profile))
        return sessions

    async def _dial_for_sessions(self) -> ClientConnection:
        assert self._running is not None
        return await self._running.forwarder.connect()

    def _session_log_unusable(self, reason: str) -> None:
        if self._running is not None:
            self._running.audit.note(AuditEvent.SESSION_LOG_UNUSABLE)
        self._log_message(f"remote sessions are refused, because their log cannot be written: {reason}")

    async def _ask_time(self) -> ServerTime:
        config = self._config
        tls = client_context_ignoring_dates(self._certificate.files.client_identity())
        return await ask_data_center(config.datacenter, tls, config.proxy, self._time_dial_timeout)

    async def _serve(self, running: RunningParts, port: InstrumentPort) -> None:
        """Serve the agents at a port, or the instrument at it that speaks its own standard."""
        for instrument in port.instrument:
            if instrument.adapted:
                serve = partial(self._serve_adapted, running, port, instrument.serial, instrument.adapted)
                await self._profiles.while_unchanged(instrument.serial, serve)
        await self._serve_agents(running, port)

    async def _serve_adapted(
        self, running: RunningParts, port: InstrumentPort, serial: str, site: AdaptedPort
    ) -> None:
        profile, clock_ms = self._profiles.allowed[serial].profile, partial(now_ms, self._hardware.clock)
        intake, source = running.intake, running.intake.sources[serial]
        serial_ports = self._hardware.serial_ports
        role = role_of(intake, source, profile, site, clock_ms, running.audit.note, serial_ports)
        async with asyncio.TaskGroup() as tasks:
            attend = partial(attend_commands, intake, source, can_command=role.can_command)
            tasks.create_task(self._supervise("commands", attend, running, port.number))
            if role.serve_serial:
                self._on_served(port.number, 0)
                self._served.add(port.number)
                try:
                    await role.serve_serial()
                finally:
                    self._served.discard(port.number)
            tcp_port = listening_port(profile, site)
            assert role.connected and tcp_port is not None, "serve_serial runs until it is cancelled"
            open_port = partial(listen, role.connected, port.listen, tcp_port)
            server = await self._until_served(running, port, open_port)
            self.tcp_ports[port.number] = server.sockets[0].getsockname()[1]
            self._served.add(port.number)
            self._on_served(port.number, self.tcp_ports[port.number])
            try:
                await asyncio.Event().wait()
            finally:
                self._served.discard(port.number)
                self.tcp_ports.pop(port.number, None)
                role.end()
                await close(server)

    async def _until_served(
        self, running: RunningParts, port: InstrumentPort, open_port: Callable[[], Awaitable[T]]
    ) -> T:
        while True:
            try:
                return await open_port()
            except OSError:
                running.audit.note(AuditEvent.PORT_NOT_SERVED, port=port.number)
                await asyncio.sleep(PORT_RETRY_SECONDS)

    async def _serve_agents(self, running: RunningParts, port: InstrumentPort) -> None:
        clock = self._hardware.clock
        server = await self._until_served(
            running,
            port,
            lambda: running.collector.listen(
                port.number,
                port.listen,
                port.tcp_port,
                self._certificate.server_tls,
                lambda: clock.now_ns() / 1e9,
                self._revocations,
            ),
        )
        self.tcp_ports[port.number], self._servers[port.number] = server.port, server
        self._served.add(port.number)
        connections = Bound("connections", server.connection_usage, port.number)
        running.bounds.add(connections)
        self._on_served(port.number, server.port)
        try:
            await asyncio.Event().wait()
        finally:
            self._served.discard(port.number)
            self.tcp_ports.pop(port.number, None)
            self._servers.pop(port.number, None)
            running.bounds.remove(connections)
            await server.close()
