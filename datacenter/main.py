"""The data center's program: runs the listeners and the database threads, and stops cleanly at SIGTERM.

All database calls run on separate threads, so that signals are handled even if a call does not return; the process
then ends END_SECONDS_MAX after the signal.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import signal
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from datacenter.access.compiled import CompiledPolicies
from datacenter.access.control import AccessControl
from datacenter.access.reload import follow_access
from datacenter.audit.access_changes import access_recorder
from datacenter.audit.heads import HeadService
from datacenter.audit.siem import SiemForwarder
from datacenter.base.counter import count_periodically
from datacenter.bounds import datacenter_bounds, watch_bounds
from datacenter.commands.files import FileArchive
from datacenter.commands.ranges import FileRanges
from datacenter.config import Config, check_identity, identity, load_config, revocation_list
from datacenter.enrolment.box_lists import AuthorizedBoxes, DeniedBoxes
from datacenter.enrolment.registration import RegistrationAuthority, approved_boxes
from datacenter.enrolment.service import EnrolmentService, guarded
from datacenter.evaluation.evaluator import Evaluator
from datacenter.evaluation.follower import Follower
from datacenter.evaluation.knowledge import TriggerKnowledge, read_knowledge
from datacenter.evaluation.silence import SilenceWatch
from datacenter.evaluation.triggerset import read_triggers
from datacenter.fleet.sitefile import FleetFile, enter_sites, read_sites
from datacenter.history.archivist import archive_hourly
from datacenter.ingest import make_ingest
from datacenter.log import start_log
from datacenter.monitoring.metrics import Metrics
from datacenter.monitoring.requests import measured_application, measured_handler
from datacenter.monitoring.start import monitoring
from datacenter.notices.start import make_sender
from datacenter.notices.targets import read_targets
from datacenter.refused import RefusedClients
from datacenter.releases.folder import ReleaseFolder
from datacenter.releases.service import ReleaseService
from datacenter.sessions.remote import RemoteSessions
from datacenter.store.errors import StoreError
from datacenter.store.queue import RECORDS_MAX, RoutedQueue, StoreQueue
from datacenter.store.shards import open_store
from datacenter.store.store import Store, schema_revision
from datacenter.store.tables.schema import REVISION
from datacenter.store.threads import StoreThreads
from datacenter.tunnel.tunnels import Tunnels
from datacenter.web.server import serving
from datacenter.web.start import make_access, make_staff_web
from settings.problems import SettingsError
from wire.http.admission import Limits
from wire.http.connection import Server, serve
from wire.messages import BATCH_BODY_BYTES_MAX
from wire.pki.signature import load_private_key
from wire.process.descriptors import DESCRIPTORS_RESERVED, raise_descriptor_limit
from wire.process.failures import FailureLog
from wire.process.forced_exit import ForcedExit
from wire.tls.context import ServerContext, client_context, server_context
from wire.tls.identity import FileVersions
from wire.tls.peer import ClientCheck
from wire.tls.revocation import RevocationList, follow

END_SECONDS_MAX: Final = 15.0
"""Limit of the time from a signal to the end of the process."""
NOT_ENDED_STATUS: Final = 3
REFRESH_SECONDS: Final = 5.0
"""Interval of checks for changed files."""
DESCRIPTORS_MAX: Final = 16_384
"""Limit of open files. Each box has one connection, and a second one for alerts while responses are slow."""
EXPIRE_SECONDS: Final = 30.0
"""Interval at which expired commands are ended."""
STAFF_THREADS: Final = 4
"""Number of threads that read from the database for pages."""
_log: Final = logging.getLogger(__name__)


class Signals(NamedTuple):
    """Requests by signals: stop (SIGTERM, SIGINT), and read changed files immediately (SIGHUP)."""

    stop: asyncio.Event
    reload: asyncio.Event


class Ports(NamedTuple):
    """The TCP ports of the listeners; None for those that are not configured."""

    boxes: int
    staff: int | None
    monitoring: int | None


Ready: TypeAlias = Callable[[Ports], None]
"""Called once all listeners accept connections."""


def run_datacenter(
    config_path: str | Path,
    ready: Ready = lambda _: None,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called once boxes can connect. `now_ms` is the program's clock.

    If the database does not respond during the shutdown, the process prints the reason and exits with status 3.

    Raises: SettingsError; StoreError; OSError or ssl.SSLError for an unusable address or PEM file.
    """
    config = load_config(Path(config_path))
    start_log(config.log.format, config.log.level)
    known = read_knowledge(config.evaluation.triggers)
    fleet = read_sites(config.fleet, config.boxes) if config.fleet else None
    try:
        store = open_store(config.store.url, config.store.shard_urls)
    except ValueError as error:
        raise SettingsError.at(Path(config_path), "store.url", str(error)) from error
    forced_exit = ForcedExit()
    try:
        asyncio.run(_run(config, store, known, fleet, ready, forced_exit, now_ms))
    finally:
        store.close()
        forced_exit.disarm()


@dataclass(frozen=True, slots=True)
class Migration:
    """Schema revisions: the oldest of the databases (None if one is empty), and the one that this program needs."""

    found: str | None
    wanted: str


def migrate_database(config_path: str | Path, *, only_check: bool) -> Migration:
    """Create or upgrade the tables of the configured database and its shards, unless `only_check`.

    Raises: SettingsError; StoreError, with nothing changed in the database that failed.
    """
    database = load_config(Path(config_path)).store
    try:
        revisions = [schema_revision(url) for url in (database.url, *database.shard_urls.values())]
        oldest = None if None in revisions else min(filter(None, revisions))
        if not only_check:
            with closing(open_store(database.url, database.shard_urls)) as store:
                store.check()
    except ValueError as error:
        raise SettingsError.at(Path(config_path), "store.url", str(error)) from error
    return Migration(oldest, REVISION)


def check_datacenter(config_path: str | Path) -> list[str]:
    """Check the configuration and the files that it names; return warnings. Raises: SettingsError."""
    config = load_config(Path(config_path))
    read_triggers(config.evaluation.triggers)
    if config.fleet is not None:
        read_sites(config.fleet, config.boxes)
    warnings = check_identity(config)
    revocation_list(config)
    if config.staff is not None:
        AccessControl(config.access_files, lambda _: None)
    if config.notices is not None:
        read_targets(config.notices.targets)
    return warnings


async def _run(
    config: Config,
    store: Store,
    known: TriggerKnowledge,
    fleet: FleetFile | None,
    ready: Ready,
    forced_exit: ForcedExit,
    now_ms: Callable[[], int],
) -> None:
    signals, loop = Signals(asyncio.Event(), asyncio.Event()), asyncio.get_running_loop()
    loop.set_exception_handler(FailureLog())
    threads = StoreThreads(store)

    def end() -> None:
        if not signals.stop.is_set():
            _log.info("stopping because of a signal")
            idle = threads.idle()
            forced_exit.arm(END_SECONDS_MAX, lambda: (NOT_ENDED_STATUS, _why_not_ended(idle)))
            signals.stop.set()

    loop.add_signal_handler(signal.SIGHUP, signals.reload.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        authorized = loop.run_in_executor(threads.main, _authorize, store, config.boxes, fleet, now_ms())
        if await _is_done_before(signals.stop, authorized):
            await _serve(config, store, known, fleet, ready, threads, signals, now_ms)
    finally:
        end()
        await threads.close()


def _authorize(store: Store, boxes: list[str], fleet: FleetFile | None, now_ms: int) -> None:
    """Authorize boxes and enter sites, if the databases match the configuration. Raises: StoreError."""
    store.check()
    approved = approved_boxes(store)
    store.authorize([*boxes, *approved], now_ms)
    if fleet is not None:
        enter_sites(store, fleet, approved)


async def _is_done_before(stop: asyncio.Event, work: asyncio.Future[None]) -> bool:
    """Wait for `work` or `stop`; return whether `work` is done. Raises: the exception of `work`."""
    stopped = asyncio.ensure_future(stop.wait())
    waiting: set[asyncio.Future[Any]] = {work, stopped}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if work.done():
        work.result()
    return work.done()


def _why_not_ended(idle: Mapping[str, Future[int]]) -> str:
    """Return the reason for a late end; `idle` has, by database, a future that is done if no call is running."""
    hanging = [url for url, call in idle.items() if not call.done()]
    if not hanging:
        return f"did not stop within {END_SECONDS_MAX:g} s, although no database call is running"
    return (
        f"store.url: {', '.join(hanging)}: the database has not responded for {END_SECONDS_MAX:g} s; "
        "uncommitted batches were not acknowledged, and the boxes will send them again"
    )


async def _serve(
    config: Config,
    store: Store,
    known: TriggerKnowledge,
    fleet: FleetFile | None,
    ready: Ready,
    threads: StoreThreads,
    signals: Signals,
    now_ms: Callable[[], int],
) -> None:
    executor, evaluator = threads.main, Evaluator(store, known.triggers)
    revocations = revocation_list(config)
    one_writer = executor if store.has_one_writer else None
    metrics = Metrics()
    watch = SilenceWatch(store, evaluator.triggers)
    follower = Follower(evaluator, one_writer, now_ms, watch, metrics.evaluated, metrics.evaluation_failed)
    sender = make_sender(config.notices, store, one_writer, now_ms) if config.notices else None
    records_max = RECORDS_MAX // len(store.parts)
    queue = RoutedQueue(
        store.of,
        {
            part: StoreQueue(
                thread, metrics.measured(part.ingest_all, time.monotonic), records_max, follower.stored
            )
            for part, thread in threads.of.items()
        },
    )
    bounds = datacenter_bounds(lambda: server, queue)
    authorized, denied = AuthorizedBoxes(store), DeniedBoxes(store)
    access = make_access(config, store) if config.staff else None
    sessions = None
    if config.sessions is not None and access is not None:
        tunnels = Tunnels(config.sessions)
        policies = partial(_policies, access)
        sessions = RemoteSessions(
            config.sessions,
            store,
            executor,
            policies,
            now_ms,
            authorized,
            tunnels.make_endpoint,
            fleet.four_eyes if fleet else (),
        )
        denied.on_denied.append(sessions.end_of_box)
    files = FileRanges(FileArchive(store), executor, now_ms)
    releases = None
    if config.releases is not None:
        folder = ReleaseFolder(config.releases.folder)
        releases = ReleaseService(folder, authorized, store, one_writer, now_ms)
    enrolment = _enrolment(config, store, executor, now_ms)
    heads = None
    if config.audit is not None:
        heads = HeadService(store, executor, load_private_key(config.audit.key), now_ms)
    ingest = make_ingest(
        now_ms, queue, config.front_ends, files, sessions, releases, enrolment, heads, denied
    )
    refused = RefusedClients()
    ingest = refused.logged(guarded(ingest, denied, time.time, config.front_ends), config.front_ends)
    server = await serve(
        measured_handler(ingest, metrics.request),
        config.listen.host,
        config.listen.port,
        tls=_server_context(config),
        body_bytes_max=BATCH_BODY_BYTES_MAX,
        now=time.time,
        check=ClientCheck(revocations, refused.certificate),
        limits=Limits(connections_max=raise_descriptor_limit(DESCRIPTORS_MAX) - DESCRIPTORS_RESERVED),
        crowded=lambda _connections, _beyond: bounds.check(),
        unsecured=refused.handshake,
    )
    if revocations:
        bounds.add(*revocations.bounds(time.time))
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        if sessions is not None:
            await stack.enter_async_context(sessions.running())
            _log.info("tunnels on port %d", await stack.enter_async_context(tunnels.listening()))
        staff = None
        if access is not None:
            staff = await _serve_staff(
                config, store, known, executor, stack, now_ms, metrics, access, sessions, releases
            )
        watched = monitoring(config, metrics, store, now_ms, bounds, server, queue, follower)
        ports = Ports(server.port, staff, await stack.enter_async_context(watched))
        _log_ports(ports)
        ready(ports)
        following = [
            tasks.create_task(_follow_certificate(config, server)),
            tasks.create_task(watch_bounds(bounds, config.store.url)),
            tasks.create_task(follower.run()),
            tasks.create_task(_expire_commands(store, executor, now_ms)),
            tasks.create_task(
                archive_hourly(store, one_writer, now_ms, config.store.rows_days, config.store.retention)
            ),
            tasks.create_task(count_periodically(store, one_writer, now_ms)),
            tasks.create_task(authorized.follow(executor)),
            tasks.create_task(denied.follow(executor)),
        ]
        if access is not None:
            changed = sessions.rights_changed if sessions is not None else lambda: None
            record = access_recorder(store, now_ms)
            followed = follow_access(access, lambda: config.access_files, signals.reload, changed, record)
            following.append(tasks.create_task(followed))
        if releases is not None:
            following.append(tasks.create_task(releases.run()))
        if config.siem is not None:
            tls = client_context(config.siem.identity)
            siem = SiemForwarder(store, executor, config.siem.host, config.siem.port, tls)
            following.append(tasks.create_task(siem.run()))
        if sender is not None:
            following.append(tasks.create_task(sender.run()))
        if revocations:
            report = partial(_log_revocations, revocations)
            following.append(tasks.create_task(follow(revocations, REFRESH_SECONDS, report)))
        await signals.stop.wait()
        for task in following:
            task.cancel()
    await server.close()


def _server_context(config: Config) -> ServerContext:
    """Return the context for boxes. With enrolment it accepts expired certificates, which `guarded` restricts.

    Raises: OSError, ssl.SSLError.
    """
    return server_context(identity(config), checks_dates=config.enrolment is None)


def _enrolment(
    config: Config, store: Store, executor: ThreadPoolExecutor, now_ms: Callable[[], int]
) -> EnrolmentService | None:
    """Return the service that issues certificates, if it is configured. Raises: AuthorityError, OSError."""
    if config.enrolment is None:
        return None
    authority = config.enrolment.load_authority(config.tls.authorities)
    registration = RegistrationAuthority(store, authority, now_ms)
    return EnrolmentService(registration, executor, config.enrolment.load_datacenter_roots())


def _policies(access: AccessControl) -> CompiledPolicies:
    """Return the policies in force."""
    return access.rules.policies


def _log_ports(ports: Ports) -> None:
    _log.info("ready on port %d", ports.boxes)
    if ports.staff is not None:
        _log.info("staff pages on port %d", ports.staff)
    if ports.monitoring is not None:
        _log.info("monitoring on port %d", ports.monitoring)


async def _expire_commands(store: Store, executor: ThreadPoolExecutor, now_ms: Callable[[], int]) -> None:
    """End expired commands periodically, until cancelled; failures of the database are logged."""
    while True:
        try:
            await asyncio.get_running_loop().run_in_executor(executor, store.expire_commands, now_ms())
        except StoreError as error:
            _log.error("the expired commands could not be ended: %s", error)
        await asyncio.sleep(EXPIRE_SECONDS)


async def _serve_staff(
    config: Config,
    store: Store,
    known: TriggerKnowledge,
    executor: ThreadPoolExecutor,
    stack: AsyncExitStack,
    now_ms: Callable[[], int],
    metrics: Metrics,
    access: AccessControl,
    sessions: RemoteSessions | None,
    releases: ReleaseService | None,
) -> int:
    """Serve the staff's pages until `stack` is closed; return the TCP port."""
    assert config.staff is not None, "with access control"
    readers = stack.enter_context(ThreadPoolExecutor(STAFF_THREADS, "pages"))
    folder = releases.folder if releases else None
    web = make_staff_web(config, store, known, now_ms, readers, executor, access, sessions, folder)
    application = measured_application(web, metrics.request)
    return await stack.enter_async_context(
        serving(
            application,
            config.staff.host,
            config.staff.port,
            has_websockets=sessions is not None,
        )
    )


async def _follow_certificate(config: Config, server: Server) -> None:
    """Use changed certificate files for new connections once they are complete, until cancelled."""
    files = FileVersions(dataclasses.astuple(identity(config)))
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        if not files.have_settled():
            continue
        try:
            check_identity(config)
            server.use(_server_context(config))
            _log.info("the certificate was renewed")
        except (SettingsError, OSError, ssl.SSLError) as error:
            _log.error("the changed certificate files are not used: %s", error)


def _log_revocations(revocations: RevocationList, error: Exception | None) -> None:
    if error is not None:
        _log.error("the revocation list could not be reloaded, the previous one remains in use: %s", error)
    else:
        _log.info("the revocation list was reloaded")
    if revocations.expires_s < time.time():
        _log.warning("the revocation list in use has expired")
