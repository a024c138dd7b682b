"""Sends audit records of boxes and of the data center to a SIEM: RFC 5424 messages over TLS (RFC 5425).

Each record is sent at least once, in the order of its chain.

RFC 5425 has no acknowledgement. Therefore the messages of a connection count as delivered once the receiver has
closed it after reading everything: this program closes its side, and waits. A receiver that terminates without having
read everything resets the connection, and the messages are sent again. A loss of records after the receiver has read
them cannot be detected; in this case, the cursor can be set back. Each message has a unique `id`, by which duplicates
are found.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Final

from sqlalchemy import func, insert, select, update

from datacenter.audit.boxes import is_clock_doubtful, iso_time
from datacenter.audit.chain import AuditRow
from datacenter.audit.trail import audit_row
from datacenter.store.box_audit import AuditRecord
from datacenter.store.errors import StoreError
from datacenter.store.store import Store
from datacenter.store.tables.schema import audit, box_audit, box_chains, siem_cursors

RECORDS_MAX: Final = 500
"""Maximum number of messages on one connection."""
POLL_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 30.0
RETRY_SECONDS_MAX: Final = 600.0
"""Maximum pause; the pause doubles while the SIEM is unreachable."""
CONNECT_SECONDS_MAX: Final = 30.0
CLOSE_SECONDS_MAX: Final = 600.0
"""Time limit for the receiver to read the messages of one connection."""
READ_BYTES: Final = 16 * 1024
WRITE_BYTES: Final = 64 * 1024
FACILITY: Final = 13 * 8
"""Facility "log audit"."""
INFORMATIONAL, NOTICE = 6, 5
"""Severities."""
OWN: Final = "datacenter"
"""The name of the data center's own log, and of its host in messages."""
STRUCTURED_ID: Final = "rap@32473"
"""32473 is the enterprise number for examples (RFC 5612), because the vendor of this software has none."""
_A, _C = box_audit.c, box_chains.c
_RECORD: Final = [_A[name] for name in AuditRecord._fields]
# built once: polls are frequent, and building a statement takes longer than executing it
_WAITING: Final = select(_C.box, _C.epoch, _C.forwarded, _C.number).where(_C.forwarded < _C.number).limit(1)
_OWN_SENT: Final = select(siem_cursors.c.number).where(siem_cursors.c.log == OWN).scalar_subquery()
_OWN_WAITING: Final = (
    select(audit)
    .where(audit.c.number > func.coalesce(_OWN_SENT, 0))
    .order_by(audit.c.number)
    .limit(RECORDS_MAX)
)
_log: Final = logging.getLogger(__name__)


def siem_message(record: AuditRecord) -> bytes:
    """Return the message of a record, with its length before it (octet counting)."""
    identity = f"{record.box}/{record.epoch}/{record.number}"
    synced = "0" if is_clock_doubtful(record) else "1"
    structured = (
        f'[{STRUCTURED_ID} id="{identity}" hash="{record.hash.hex()}" kind="{record.kind}"'
        f' arrived="{iso_time(record.stored_at_ms)}"][timeQuality tzKnown="1" isSynced="{synced}"]'
    )
    header = f"<{FACILITY + INFORMATIONAL}>1 {iso_time(record.at_ms)} {record.box} rap-audit - {record.kind}"
    return _framed(f"{header} {structured}", record.text)


def own_message(row: AuditRow) -> bytes:
    """Return the message of a record of the data center's own audit log, with its length before it."""
    entry, severity = row.entry, INFORMATIONAL if row.entry.outcome == "permitted" else NOTICE
    structured = (
        f'[{STRUCTURED_ID} id="{OWN}/{row.number}" hash="{row.hash}" kind="access"]'
        '[timeQuality tzKnown="1" isSynced="1"]'
    )
    fields = [entry.actor, entry.outcome, entry.action, entry.kind, entry.resource, entry.place]
    options = {"purpose": entry.purpose, "token": entry.token, "policy": entry.policy}
    fields += [f"{name}={value}" for name, value in options.items() if value]
    text = " ".join(filter(None, [*fields, entry.reason]))
    return _framed(
        f"<{FACILITY + severity}>1 {iso_time(entry.at_ms)} {OWN} rap-audit - access {structured}", text
    )


def _framed(head: str, text: str) -> bytes:
    """Return a message with its length before it (octet counting)."""
    message = f"{head} ".encode() + b"\xef\xbb\xbf" + text.encode()
    return b"%d %s" % (len(message), message)


async def deliver(host: str, port: int, tls: ssl.SSLContext, content: bytes) -> None:
    """Send `content`, and wait until the receiver has read it and has closed the connection.

    Raises: OSError, which includes TimeoutError.
    """
    async with asyncio.timeout(CONNECT_SECONDS_MAX):
        reader, writer = await asyncio.open_connection(host, port)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secured = tls.wrap_bio(incoming, outgoing, server_hostname=host)
    try:
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            await _shake_hands(secured, incoming, outgoing, reader, writer)
        async with asyncio.timeout(CLOSE_SECONDS_MAX):
            for first in range(0, len(content), WRITE_BYTES):
                secured.write(content[first : first + WRITE_BYTES])
                writer.write(outgoing.read())
                await writer.drain()
            with suppress(ssl.SSLError):
                secured.unwrap()  # the receiver's close_notify is not needed: rsyslog sends none
            writer.write(outgoing.read())
            writer.write_eof()
            while await reader.read(READ_BYTES):
                pass  # an error means that the receiver terminated without having read everything
    finally:
        writer.transport.abort()


async def _shake_hands(
    secured: ssl.SSLObject,
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    while True:
        try:
            secured.do_handshake()
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
            if not (received := await reader.read(READ_BYTES)):
                raise ConnectionResetError(
                    "the SIEM closed the connection during the TLS handshake"
                ) from None
            incoming.write(received)
        else:
            writer.write(outgoing.read())
            return


def next_records(store: Store) -> list[AuditRecord]:
    """Return verified records of one chain that were not delivered yet. Raises: StoreError."""
    for box, epoch, forwarded, verified in store.read(_WAITING):
        of_chain = (_A.box == box, _A.epoch == epoch, _A.number > forwarded, _A.number <= verified)
        query = select(*_RECORD).where(*of_chain).order_by(_A.number).limit(RECORDS_MAX)
        return [AuditRecord(*row) for row in store.read(query)]
    return []


def mark_delivered(store: Store, records: Sequence[AuditRecord]) -> None:
    """Move the cursor of a chain past delivered records. Raises: StoreError."""
    last = records[-1]
    of_chain = (_C.box == last.box, _C.epoch == last.epoch)
    with store.transaction() as connection:
        connection.execute(update(box_chains).where(*of_chain).values(forwarded=last.number))


def next_own(store: Store) -> list[AuditRow]:
    """Return records of the data center's own log that were not delivered yet. Raises: StoreError."""
    return [audit_row(row) for row in store.read(_OWN_WAITING)]


def mark_own_delivered(store: Store, rows: Sequence[AuditRow]) -> None:
    """Move the cursor of the data center's own log past delivered records. Raises: StoreError."""
    number = rows[-1].number
    with store.transaction() as connection:
        of_log = siem_cursors.c.log == OWN
        if not connection.execute(update(siem_cursors).where(of_log).values(number=number)).rowcount:
            connection.execute(insert(siem_cursors).values(log=OWN, number=number))


class SiemForwarder:
    """Forwards records until cancelled. The store is called on `executor`."""

    def __init__(
        self, store: Store, executor: Executor | None, host: str, port: int, tls: ssl.SSLContext
    ) -> None:
        self._store, self._executor = store, executor
        self._host, self._port, self._tls = host, port, tls

    async def run(self) -> None:
        """Forward records; if the SIEM is unreachable, retry after RETRY_SECONDS, then after longer pauses."""
        is_unreachable, pause_s = False, RETRY_SECONDS
        while True:
            try:
                sent = [await self._forward(part) for part in self._store.parts]
                sent.append(await self._forward_own())
                if is_unreachable and any(sent):
                    _log.info("the SIEM receives audit records again")
                    is_unreachable, pause_s = False, RETRY_SECONDS
                await asyncio.sleep(0 if any(sent) else POLL_SECONDS)
            except (OSError, StoreError) as error:
                if not is_unreachable:
                    why = str(error) or "it does not respond"
                    _log.error("audit records wait, because the SIEM does not receive them: %s", why)
                is_unreachable = True
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_SECONDS_MAX)

    async def _forward(self, part: Store) -> bool:
        """Forward the next records of a database; return whether there were any."""
        loop = asyncio.get_running_loop()
        records = await loop.run_in_executor(self._executor, next_records, part)
        if not records:
            return False
        messages = [siem_message(record) for record in records if not record.is_repeated]
        if messages:
            content = b"".join(messages)
            await deliver(self._host, self._port, self._tls, content)
        await loop.run_in_executor(self._executor, mark_delivered, part, records)
        return True

    async def _forward_own(self) -> bool:
        """Forward the next records of the data center's own log; return whether there were any."""
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(self._executor, next_own, self._store)
        if not rows:
            return False
        await deliver(self._host, self._port, self._tls, b"".join(map(own_message, rows)))
        await loop.run_in_executor(self._executor, mark_own_delivered, self._store, rows)
        return True
