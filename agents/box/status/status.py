"""The status socket of a running box: a Unix socket with one JSON document per connection. Read-only.

Only the socket's owner can connect. The document holds counts and states, no contents of reports.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from agents.box.audit_work import AuditStatus
from agents.box.firewall import FirewallStatus
from agents.box.intake.counts import PortStatus
from agents.box.status.snapshot import BoxStatus
from agents.box.updates.surroundings import UpdateStatus
from agents.box.uplink.trust import TrustProblem
from agents.spool import Priority
from hal.crypto import SelfTest
from hal.unix_socket import Listener
from wire.dial.traffic import Traffic

ANSWER_SECONDS: Final = 5.0
"""Timeout of a status query."""


class WaitingRecords(msgspec.Struct, frozen=True):
    """Records that the data center has not acknowledged, by priority."""

    alert: int
    audit: int
    routine: int


class StatusReport(msgspec.Struct, frozen=True):
    """The status document of a running box. Totals count from the start of the program."""

    connected: bool
    backlog: WaitingRecords
    accepted: int
    """Reports accepted from instruments."""
    repeated: int
    """Duplicate reports, which were detected and not stored again."""
    spool_bytes: int
    """Total size of the spool's files."""
    gaps_reported: int
    traffic: Traffic
    firewall: FirewallStatus | None = None
    """None without [firewall] in the configuration."""
    certificate: CertificateStatus | None = None
    bounds: tuple[BoundStatus, ...] = ()
    spool_problem: str = ""
    """Why the spool accepts no records, so that reports are refused; empty if it accepts them."""
    trust: TrustProblem | None = None
    """Why the data center's certificate is not trusted; None if it is, or if that is unknown."""
    ports: tuple[PortStatus, ...] = ()
    """The ports with an instrument that speaks its own standard."""
    update: UpdateStatus | None = None
    """None if the box ignores orders to update it."""
    fips: SelfTest | None = None
    """The self-test at the start; None if the site does not require FIPS mode."""
    audit: AuditStatus | None = None
    """None without [audit] and [sessions] in the configuration."""


class CertificateStatus(msgspec.Struct, frozen=True):
    """The box's own certificate."""

    expires_s: float | None
    """Expiry time, in seconds since 1970; None if the certificate is unreadable."""
    problems: tuple[str, ...]
    """The most severe problem first."""


class BoundStatus(msgspec.Struct, frozen=True):
    """A bounded quantity, as last measured."""

    name: str
    amount: float
    limit: float
    is_near: bool
    """Whether there is an alarm: from 80 % of the limit (spool and file system: 75 %) until it is below 70 % again
    (the spool: 50 %)."""
    port: int = 0
    """The instrument port that it belongs to; 0: none."""


class NotRunning(Exception):
    """No program answers at the socket."""


def as_status(status: BoxStatus) -> StatusReport:
    """Return the part of `BoxStatus` that the status document holds."""
    alert, audit, routine = (status.spool.records[priority] for priority in Priority)
    return StatusReport(
        connected=status.is_connected,
        backlog=WaitingRecords(alert, audit, routine),
        accepted=status.reports_accepted,
        repeated=status.reports_repeated,
        spool_bytes=status.spool.disk_bytes,
        gaps_reported=status.spool.gaps_reported,
        traffic=status.traffic,
        firewall=status.firewall,
        certificate=CertificateStatus(
            status.certificate.expires_s, tuple(map(str, status.certificate.problems))
        ),
        bounds=tuple(
            BoundStatus(level.name, level.amount, level.limit, level.is_near, level.port)
            for level in status.levels
        ),
        spool_problem=status.spool_problem,
        trust=status.trust,
        ports=status.ports,
        update=status.update,
        fips=status.fips,
        audit=status.audit,
    )


@contextlib.asynccontextmanager
async def serve_status(path: Path, ask: Callable[[], Awaitable[BoxStatus | None]]) -> AsyncIterator[None]:
    """Serve the status at `path` during the context. A socket left by a killed program is replaced.

    `ask` returns None before the spool is open. Then, and if it does not return in time because the disk hangs, the
    connection is closed without an answer.

    Raises: OSError, also if another program listens at `path`, or if the file is not a socket.
    """

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            async with asyncio.timeout(ANSWER_SECONDS / 2):
                status = await ask()
            if status is not None:
                writer.write(msgspec.json.encode(as_status(status)))
        writer.close()

    listener = Listener(path, 0o600)
    try:
        async with await asyncio.start_unix_server(answer, sock=listener.socket):
            yield
    finally:
        listener.close()


def read_status(path: Path) -> StatusReport:
    """Query the box that listens at `path`. Raises: NotRunning, with the reason."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(os.fspath(path))
            response = b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError as error:
            raise NotRunning(f"{path}: no box program is listening: {error.strerror or error}") from error
    if not response:
        raise NotRunning(f"{path}: the box program is still opening its spool, or its disk does not respond")
    return msgspec.json.decode(response, type=StatusReport)
