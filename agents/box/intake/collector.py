"""Receives reports by `POST /v1/reports`, and stores each of them durably and once before acknowledging it.

Each instrument port has its own listener, which serves only the instruments enrolled at that port. An instrument is
identified by the common name of its certificate. A report is decoded against the allow-list, compared with the
instrument's high-water marks and appended to the spool; then the marks are moved and the request is answered.

A report whose number was used for another report is refused with status 409 and the run to continue with, because
acknowledging it would lose it. A run below that of the marks is refused in the same way, so that runs only rise.

Requests of one instrument are handled one after the other. A request that is repeated on a new connection while the
first one is being written is therefore compared with the updated marks, or stores the reports if the first one
failed.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from agents.box.buffer import Buffer
from agents.box.commands import CommandDispatcher, CommandQueue
from agents.box.intake.backlog import PINNED_SHARE, Backlog
from agents.box.intake.high_water_marks import HighWaterMark, digest_of
from agents.box.intake.limits import REPORTS_BURST, report_bucket
from agents.spool import Priority, SpoolError
from wire.audit_events import AuditEvent
from wire.http.admission import Limits
from wire.http.connection import Request, Response, Server, serve
from wire.messages import (
    NEXT_RUN,
    REPORTS_BODY_BYTES_MAX,
    RUN_MAX,
    Alert,
    CommandResult,
    Entry,
    InstrumentReport,
    MessageError,
    Receipt,
    Reports,
    decode,
    encode,
)
from wire.process.bounds import Bound
from wire.process.ratelimit import TokenBucket
from wire.profiles import AllowList
from wire.tls.peer import ClientCheck, PeerProblem
from wire.tls.revocation import RevocationList

PATH: Final = "/v1/reports"
CONNECTIONS_MAX: Final = 8
"""Limit per port, plus CONNECTIONS_EACH for each instrument enrolled there."""
CONNECTIONS_EACH: Final = 2
HANDSHAKE_SECONDS_MAX: Final = 10.0
REQUEST_SECONDS_MAX: Final = 30.0
"""Ample: instruments are on the local network, and a request has at most 64 KiB."""
RETRY_SPOOL_SECONDS: Final = 10
"""`Retry-After` while the disk is full or fails."""

_PRIORITIES: Final = {Alert: Priority.ALERT, CommandResult: Priority.AUDIT}


class Note(Protocol):
    """Writes an audit record about a port without waiting until it is durable."""

    def __call__(self, event: AuditEvent, value: int = 0, *, port: int) -> object: ...


class _RunRefused(Exception):
    """The reports cannot be accepted under their run; the instrument must continue under `next_run`."""

    def __init__(self, event: AuditEvent, message: str, next_run: int) -> None:
        super().__init__(message)
        self.event, self.next_run = event, next_run


_REFUSALS: Final = {
    PeerProblem.PURPOSE: AuditEvent.INSTRUMENT_WITHOUT_PURPOSE,
    PeerProblem.REVOKED: AuditEvent.INSTRUMENT_REVOKED,
    PeerProblem.ISSUER_REVOKED: AuditEvent.INSTRUMENT_CA_REVOKED,
    PeerProblem.CHAIN: AuditEvent.INSTRUMENT_CHAIN_UNKNOWN,
}


@dataclass(slots=True, eq=False)
class _Source:
    """An enrolled instrument."""

    serial: str
    allowed: AllowList
    marks: list[HighWaterMark]
    queue: CommandQueue
    port: int
    backlog: Backlog
    bucket: TokenBucket = field(default_factory=report_bucket)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Collector:
    """Handles instruments' requests. `accepted` counts stored reports, `repeated` detected duplicates."""

    def __init__(
        self,
        buffer: Buffer,
        marks: Callable[[str], list[HighWaterMark]],
        dispatcher: CommandDispatcher,
        note: Note,
        ports: Mapping[str, int],
        allowed: Mapping[str, AllowList],
    ) -> None:
        """`ports` and `allowed` map instruments to their ports and allow-lists.

        `marks` returns an instrument's high-water marks by priority.
        """
        self._buffer, self._note = buffer, note
        self._loop = asyncio.get_running_loop()
        pinned_bytes_max = PINNED_SHARE * buffer.limits.spool_bytes_max / max(1, len(ports))
        self._sources = {
            serial: _Source(
                serial,
                allowed[serial],
                marks(serial),
                dispatcher.of(serial),
                port,
                Backlog(buffer.delivered, pinned_bytes_max),
            )
            for serial, port in ports.items()
        }
        self.accepted = self.repeated = 0
        self.on_port_filling: Callable[[], object] = lambda: None
        """Called when the connections of a port reach 80 % of their limit."""

    def bounds(self) -> list[Bound]:
        """The report rate of each port: that of its busiest instrument."""
        ports = sorted({source.port for source in self._sources.values()})
        return [Bound("report-rate", partial(self._busiest, port), port) for port in ports]

    def _busiest(self, port: int) -> tuple[float, float]:
        now = self._loop.time()
        used = [source.bucket.used(now) for source in self._sources.values() if source.port == port]
        return max(used), REPORTS_BURST

    async def listen(
        self,
        port: int,
        host: str,
        tcp_port: int,
        tls: ssl.SSLContext,
        now: Callable[[], float],
        revocations: RevocationList | None = None,
    ) -> Server:
        """Serve the instruments of `port` except revoked ones. Raises: OSError.

        `now` returns the wall clock's time, in seconds since 1970.
        """
        return await serve(
            partial(self.handle, port),
            host,
            tcp_port,
            tls=tls,
            body_bytes_max=REPORTS_BODY_BYTES_MAX,
            now=now,
            check=ClientCheck(revocations, partial(self._certificate_refused, port)),
            limits=port_limits(sum(source.port == port for source in self._sources.values())),
            crowded=partial(self._connections_changed, port),
        )

    def _certificate_refused(self, port: int, problem: PeerProblem, _name: str) -> None:
        self._note(_REFUSALS[problem], port=port)

    def _connections_changed(self, port: int, connections: int, beyond: bool) -> None:
        self.on_port_filling()
        if beyond:
            self._note(AuditEvent.CONNECTIONS_OVER_LIMIT, connections, port=port)

    async def handle(self, port: int, request: Request) -> Response:
        """Handle a request received at `port`."""
        source = self._sources.get(request.peer.name)
        if source is None or source.port != port:
            self._note(AuditEvent.INSTRUMENT_NOT_ENROLLED, port=port)
            return _text(403, f"{request.peer.name} is not enrolled at port {port}")
        if request.target != PATH:
            return _text(404, f"unknown path; the only one is {PATH}")
        if request.method != "POST":
            return Response(405, b"POST only", {"allow": "POST"})
        try:
            message = decode(Reports, request.body)
            prioritized = _with_priorities(message.reports)
        except MessageError as error:
            self._note(AuditEvent.REPORTS_REFUSED, port=port)
            return _text(400, str(error))
        if outside := next(filter(None, map(source.allowed.refusal, message.reports)), ""):
            self._note(AuditEvent.WORDS_REFUSED, port=port)
            return _text(400, outside)
        now = self._loop.time()
        if refusal := self._check_rate(source, len(message.reports), now):
            return refusal
        try:
            async with source.lock:
                await self._keep(source, message.run, prioritized)
        except SpoolError as error:
            self._note(AuditEvent(f"spool-{error.kind.value}"), port=port)
            return _retry_later(503, RETRY_SPOOL_SECONDS, f"the box cannot store reports at present: {error}")
        except _RunRefused as refused:
            self._note(refused.event, message.run, port=port)
            return Response(409, str(refused).encode(), {NEXT_RUN: str(refused.next_run)})
        return Response(200, encode(Receipt(len(message.reports), source.queue.take(now))))

    def _check_rate(self, source: _Source, reports: int, now: float) -> Response | None:
        """The refusal of `reports` more by the limits of one instrument; None if they are accepted."""
        if source.backlog.exceeds_share:
            self._note(AuditEvent.ALERTS_OVER_SHARE, port=source.port)
            return _retry_later(503, RETRY_SPOOL_SECONDS)
        if seconds := source.backlog.take(reports, now):
            self._note(AuditEvent.REPORTS_HELD_BACK, port=source.port)
        elif seconds := source.bucket.take(reports, now):
            self._note(AuditEvent.REPORTS_TOO_MANY, port=source.port)
        return _retry_later(429, math.ceil(seconds)) if seconds else None

    async def _keep(self, source: _Source, run: int, reports: list[tuple[int, InstrumentReport]]) -> None:
        """Store the new reports durably. Raises: SpoolError and _RunRefused, with nothing stored."""
        new = _new(source, run, reports)
        if new:
            priorities, entries = [priority for priority, _, _ in new], [entry for _, _, entry in new]
            digests = list(map(digest_of, entries))
            sequences = await self._buffer.append_all(priorities, entries)
            # update the marks before the next await: see `agents.box.buffer`
            for (priority, report, _), digest in zip(new, digests, strict=True):
                source.marks[priority].accept(run, report.number, digest)
            source.backlog.add(priorities, sequences, entries)
        for priority, report in reports:
            if priority == Priority.AUDIT and isinstance(report, CommandResult):
                source.queue.finished(report.command)
        self.accepted += len(new)
        self.repeated += len(reports) - len(new)


def port_limits(instruments: int) -> Limits:
    """The connection limits of a port with this number of enrolled instruments."""
    most = CONNECTIONS_MAX + CONNECTIONS_EACH * instruments
    return Limits(most, HANDSHAKE_SECONDS_MAX, REQUEST_SECONDS_MAX, backlog=most)


def _new(
    source: _Source, run: int, reports: list[tuple[int, InstrumentReport]]
) -> list[tuple[int, InstrumentReport, bytes]]:
    """The reports that were not accepted before, each with its encoded entry. Raises: _RunRefused."""
    highest = max(mark.run for mark in source.marks)
    next_run = highest + 1 if highest < RUN_MAX else (run + 1) % RUN_MAX
    if run < highest < RUN_MAX:
        message = f"run {run} is below run {highest}, which was used before; continue with run {next_run}"
        raise _RunRefused(AuditEvent.RUN_TOO_LOW, message, next_run)
    new = []
    for priority, report in reports:
        entry = encode(Entry(source.serial, run, report))
        mark = source.marks[priority]
        if mark.is_above(run, report.number):
            new.append((priority, report, entry))
        elif not mark.remembers(digest_of(entry)):
            message = f"a different report was accepted as number {report.number} of run {run}"
            raise _RunRefused(AuditEvent.RUN_REPEATED, f"{message}; continue with run {next_run}", next_run)
    return new


def _with_priorities(reports: list[InstrumentReport]) -> list[tuple[int, InstrumentReport]]:
    """Pair each report with its priority. Raises: MessageError if the numbers of a priority do not rise."""
    last = [0, 0, 0]
    result: list[tuple[int, InstrumentReport]] = []
    for report in reports:
        priority = _PRIORITIES.get(type(report), Priority.ROUTINE)
        if report.number <= last[priority]:
            raise MessageError(f"report {report.number} follows report {last[priority]}; numbers must rise")
        last[priority] = report.number
        result.append((priority, report))
    return result


def _text(status: int, text: str) -> Response:
    return Response(status, text.encode())


def _retry_later(status: int, seconds: int, reason: str = "") -> Response:
    return Response(status, reason.encode(), {"retry-after": str(seconds)})
