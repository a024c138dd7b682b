"""Receives reports by `POST /v1/reports`, and stores each of them durably and exactly once before acknowledging it.

Each instrument port has its own listener, which serves only the instruments enrolled at that port. An instrument is
identified by the common name of its certificate. A report is decoded against the allow-list, compared with the
instrument's high-water marks and appended to the spool; then the marks are moved and the request is answered.

A report whose number was used for another report is refused with status 409 and the run to continue with, because
acknowledging it would lose it. A run below the marks' run is refused in the same way, so that runs only rise.

Requests of one instrument are handled one after the other. A request that is repeated on a new connection while the
first one is being written is therefore compared with the updated marks, or stores the reports if the first one
failed.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Callable
from functools import partial
from typing import Final

from agents.box.files.serving import FileServing
from agents.box.intake.certificate_relay import CertificateRelay
from agents.box.intake.denied import DeniedInstruments
from agents.box.intake.intake import PRIORITIES, Intake, Note, RunRefused
from agents.box.sessions.instrument_panel import InstrumentPanels
from agents.spool import Priority, SpoolError
from wire.audit_events import AuditEvent
from wire.http.admission import Limits
from wire.http.connection import Request, Response, Server, serve
from wire.messages import (
    NEXT_RUN,
    REPORTS_BODY_BYTES_MAX,
    InstrumentReport,
    MessageError,
    Receipt,
    Reports,
    decode,
    encode,
)
from wire.tls.peer import ClientCheck, PeerProblem
from wire.tls.revocation import RevocationList

PATH: Final = "/v1/reports"
CONNECTIONS_MAX: Final = 8
"""Limit per port, plus CONNECTIONS_EACH for each instrument enrolled at it."""
CONNECTIONS_EACH: Final = 2
HANDSHAKE_SECONDS_MAX: Final = 10.0
REQUEST_SECONDS_MAX: Final = 30.0
"""More than enough: instruments are on the local network, and a request has at most 64 KiB."""
RETRY_SPOOL_SECONDS: Final = 10
"""`Retry-After` while the disk is full or fails."""

_REFUSALS: Final = {
    PeerProblem.PURPOSE: AuditEvent.INSTRUMENT_WITHOUT_PURPOSE,
    PeerProblem.REVOKED: AuditEvent.INSTRUMENT_REVOKED,
    PeerProblem.ISSUER_REVOKED: AuditEvent.INSTRUMENT_CA_REVOKED,
    PeerProblem.CHAIN: AuditEvent.INSTRUMENT_CHAIN_UNKNOWN,
}


class Collector:
    """Handles the requests of instruments' agents."""

    def __init__(self, intake: Intake, note: Note, files: FileServing, panels: InstrumentPanels) -> None:
        self._intake, self._note, self._files, self._panels = intake, note, files, panels
        self.relay: CertificateRelay | None = None
        """Relays requests for certificates; without it, TLS checks the dates of instruments' certificates."""
        self.denied: DeniedInstruments | None = None
        self.on_port_filling: Callable[[], object] = lambda: None
        """Called when the connections of a port reach 80 % of their limit."""

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
            limits=port_limits(sum(source.port == port for source in self._intake.sources.values())),
            crowded=partial(self._connections_changed, port),
        )

    def _certificate_refused(self, port: int, problem: PeerProblem, _name: str) -> None:
        self._note(_REFUSALS[problem], port=port)

    def _connections_changed(self, port: int, connections: int, is_over_limit: bool) -> None:
        self.on_port_filling()
        if is_over_limit:
            self._note(AuditEvent.CONNECTIONS_OVER_LIMIT, connections, port=port)

    async def handle(self, port: int, request: Request) -> Response:
        """Handle a request received at `port`."""
        source = self._intake.sources.get(request.peer.name)
        if source is None or source.port != port:
            self._note(AuditEvent.INSTRUMENT_NOT_ENROLLED, port=port)
            return _text(403, f"{request.peer.name} is not enrolled at port {port}")
        if self.denied is not None and self.denied.refuses(request.peer):
            return Response(403, f"{source.serial} is on the deny-list".encode(), close=True)
        if self.relay is not None:
            if self.relay.concerns(request):
                return await self.relay.handle(request, source.serial, port)
            if refusal := self.relay.refusal(request):
                return refusal
        if self._files.concerns(request):
            return await self._files.handle(request, source.serial, source.queue.commands())
        if self._panels.concerns(request):
            return await self._panels.handle(request, source.serial, port)
        if request.target != PATH:
            return _text(404, f"unknown path; reports go to {PATH}")
        if request.method != "POST":
            return Response(405, b"POST only", {"allow": "POST"})
        try:
            message = decode(Reports, request.body)
            prioritized = _with_priorities(message.reports)
        except MessageError as error:
            self._note(AuditEvent.REPORTS_REFUSED, port=port)
            return _text(400, str(error))
        if problem := next(filter(None, map(source.allowed.refusal, message.reports)), ""):
            self._note(AuditEvent.WORDS_REFUSED, port=port)
            return _text(400, problem)
        seconds = self._intake.limit(source, len(message.reports))
        if seconds is not None:
            return (
                _retry_later(429, math.ceil(seconds)) if seconds else _retry_later(503, RETRY_SPOOL_SECONDS)
            )
        try:
            await self._intake.keep(source, message.run, prioritized)
        except SpoolError as error:
            self._note(AuditEvent(f"spool-{error.kind.value}"), port=port)
            return _retry_later(503, RETRY_SPOOL_SECONDS, f"the box cannot store reports at present: {error}")
        except RunRefused as refused:
            self._note(refused.event, message.run, port=port)
            return Response(409, str(refused).encode(), {NEXT_RUN: str(refused.next_run)})
        commands = source.queue.take(asyncio.get_running_loop().time(), self._files.is_ready)
        withdrawn = self._intake.withdrawn(source, message.reports)
        return Response(200, encode(Receipt(len(message.reports), commands, withdrawn)))


def port_limits(instruments: int) -> Limits:
    """Return the connection limits of a port with this number of enrolled instruments."""
    connections_max = CONNECTIONS_MAX + CONNECTIONS_EACH * instruments
    return Limits(connections_max, HANDSHAKE_SECONDS_MAX, REQUEST_SECONDS_MAX, backlog=connections_max)


def _with_priorities(reports: list[InstrumentReport]) -> list[tuple[int, InstrumentReport]]:
    """Pair each report with its priority. Raises: MessageError if the numbers of a priority do not rise."""
    last = [0, 0, 0]
    result: list[tuple[int, InstrumentReport]] = []
    for report in reports:
        priority = PRIORITIES.get(type(report), Priority.ROUTINE)
        if report.number <= last[priority]:
            raise MessageError(f"report {report.number} follows report {last[priority]}; numbers must rise")
        last[priority] = report.number
        result.append((priority, report))
    return result


def _text(status: int, text: str) -> Response:
    return Response(status, text.encode())


def _retry_later(status: int, seconds: int, reason: str = "") -> Response:
    return Response(status, reason.encode(), {"retry-after": str(seconds)})
