"""Requests the instrument's certificate from the box by EST, for a key that the instrument generates.

The box forwards the request to the data center. The procedure is the renewal of a box (`agents.enrolment.renewal`)
with three differences: each request uses a separate connection, because the local network is fast; the instrument
trusts the vendor's CA; and the new certificate is proven to work when the box responds on a connection that uses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from random import Random

from agents.enrolment.certificate_files import BoxCertificates, InstrumentCertificates
from agents.enrolment.records import IdentityRecords
from agents.enrolment.renewal import Notes, ProvenConnection, Renewal
from hal.clock import WallClock
from hal.disk import Disk
from settings.types import Endpoint
from wire import est
from wire.audit_events import AuditEvent
from wire.dial.dialer import dial
from wire.http.connection import ClientConnection
from wire.pki.hierarchy import PrivateKey, make_key
from wire.tls.context import ClientContext, Identity, client_context


class NoNotes:
    """Records nothing: the box records the requests that it forwards."""

    def note(self, event: AuditEvent, value: int = 0) -> None:
        """See `Notes`."""


class InstrumentEnrolment:
    """Requests and renews the certificate of an instrument. Call `load` once, then `run`."""

    def __init__(
        self,
        serial: str,
        box: Endpoint,
        delivered: Identity,
        disk: Disk,
        *,
        clock: WallClock,
        random: Random,
        executor: Executor | None = None,
        make_key: Callable[[], PrivateKey] = make_key,
        notes: Notes | None = None,
    ) -> None:
        """`delivered` is the identity installed by the vendor, which authenticates the first request.

        Keys and certificates are kept on `disk`, which is used on `executor`.
        """
        self._box, self._notes = box, notes or NoNotes()
        files = InstrumentCertificates.of(delivered)
        records = IdentityRecords(disk)
        self._renewal = Renewal(serial, files, records, executor, clock, random, make_key)
        self._tls: ClientContext | None = None
        self._use: Callable[[ClientContext], object] = lambda _: None

    async def load(self) -> ClientContext:
        """Return the context for connections to the box. Raises: DiskError UNAVAILABLE, OSError, ssl.SSLError."""
        files = await self._renewal.load()
        self._tls = client_context(files.client_identity())
        return self._tls

    def close(self) -> None:
        """Remove the files with the key."""
        self._renewal.close()

    async def run(self, use: Callable[[ClientContext], object]) -> None:
        """Renew until cancelled; `use` is called with the context for the next connections.

        Raises: DiskError UNAVAILABLE.
        """
        self._use = use
        await self._renewal.run(self._dial, self._switch, self._notes)

    async def _dial(self, tls: ClientContext | None) -> ClientConnection:
        tls = tls or self._tls
        assert tls is not None, "`load` was called"
        return await dial(self._box, tls, reply_bytes_max=est.ANSWER_BYTES_MAX)

    def _switch(self, files: BoxCertificates, proven: ProvenConnection | None) -> ClientContext:
        if proven is not None:
            proven.connection.abort()
        self._tls = proven.tls if proven is not None else client_context(files.client_identity())
        self._use(self._tls)
        # the box has responded on the proven connection
        asyncio.get_running_loop().call_soon(self._renewal.answered, self._tls)
        return self._tls
