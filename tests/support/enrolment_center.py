"""A data center that stores batches and issues certificates, over real TLS on loopback, and a box's identity."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography import x509
from sqlalchemy import insert

from agents.box.configuration.config import BoxConfig, InstrumentPort, PortInstrument, Sending
from agents.enrolment.certificate_files import BoxCertificates
from datacenter.enrolment.box_lists import DeniedBoxes
from datacenter.enrolment.registration import RegistrationAuthority
from datacenter.enrolment.service import EnrolmentService, guarded
from datacenter.ingest import PATH, make_ingest
from datacenter.store.queue import StoreQueue
from datacenter.store.store import Store
from datacenter.store.tables.schema import denied_instruments
from datacenter.vendor_ca.authority import VendorAuthority
from settings.site import Enrolment
from settings.types import Endpoint
from tests.support.datacenter.store.batches import alert, encoded
from wire import est
from wire.audit_events import AuditEvent
from wire.compression import Compressor
from wire.dial.dialer import dial
from wire.http.connection import ClientConnection, Request, Response, Server, serve
from wire.pki.hierarchy import Authority, Validity
from wire.tls.context import ClientContext, Identity, ServerContext, client_context, server_context

BOX = "RAP-0001"
LOOPBACK = ("127.0.0.1", "localhost")


class EnrolmentCenter:
    """The data center; `requests` has the paths of the requests that it has answered."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.vendor, public = folder, Authority.make("vendor"), Authority.make("public")
        self.server_identity = public.issue(folder, "dc", hosts=LOOPBACK, trusts=self.vendor)
        self.valid = self.vendor.issue(folder, BOX, hosts=LOOPBACK, trusts=public)
        past = Validity.days(-700)
        self.expired = self.vendor.issue(folder / "old", BOX, hosts=LOOPBACK, trusts=public, validity=past)
        self.instrument = self.vendor.issue(folder, "CHEM-1", trusts=self.vendor)
        self.public = public
        self.store = Store(f"sqlite:///{folder / 'store.db'}")
        self.store.authorize([BOX], 0)
        self.denied = DeniedBoxes(self.store)
        self.ahead_s = 0.0
        """How many seconds the data center's clock is ahead of the machine's clock."""
        self.lost_answers = 0
        """How many of the next EST responses are lost with their connection."""
        self.requests: list[str] = []
        self.authority = VendorAuthority(self.vendor.certificate, self.vendor.key, (), (self.vendor.root,))
        self.datacenter_roots: tuple[x509.Certificate, ...] = ()
        self.server: Server | None = None

    def now_s(self) -> float:
        """Return the time of the data center's clock, in seconds since 1970."""
        return time.time() + self.ahead_s

    def files(self, identity: Identity | None = None) -> BoxCertificates:
        """Return the files of the flashed box."""
        identity = identity or self.valid
        return BoxCertificates(
            certificate=identity.certificate,
            key=identity.key,
            vendor_authority=self.instrument.authorities,
            datacenter_authority=identity.authorities,
        )

    @property
    def port(self) -> int:
        """The TCP port on which the data center listens."""
        assert self.server is not None
        return self.server.port

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[EnrolmentCenter]:
        """Serve within the context."""
        registration = RegistrationAuthority(self.store, self.authority, lambda: round(self.now_s() * 1000))
        with ThreadPoolExecutor(1) as executor:
            queue = StoreQueue(executor, self.store.ingest_all)
            enrolment = EnrolmentService(registration, executor, self.datacenter_roots)
            ingest = make_ingest(
                lambda: round(self.now_s() * 1000), queue, enrolment=enrolment, denied=self.denied
            )
            handler = guarded(ingest, self.denied, self.now_s)
            following = asyncio.ensure_future(self.denied.follow(executor))

            async def answer(request: Request) -> Response:
                self.requests.append(request.target)
                response = await handler(request)
                if self.lost_answers and request.target.startswith(est.PREFIX):
                    self.lost_answers -= 1
                    request.peer.hang_up()
                return response

            self.server = await serve(
                answer, "127.0.0.1", 0, tls=self.server_tls(), body_bytes_max=100_000, now=self.now_s
            )
            try:
                yield self
            finally:
                following.cancel()
                await self.server.close()

    def deny_instrument(self, instrument: str) -> None:
        """Put an instrument behind the box on the deny-list."""
        denial = {"denied_at_ms": 0, "denied_by": "supervisor", "reason": "stolen"}
        with self.store.transaction() as connection:
            connection.execute(insert(denied_instruments).values(box=BOX, instrument=instrument, **denial))

    def server_tls(self) -> ServerContext:
        """Return the TLS context for connections of boxes."""
        return server_context(self.server_identity, checks_dates=False)

    async def connect(self, identity: Identity | ClientContext) -> ClientConnection:
        """Connect as a box."""
        tls = identity if isinstance(identity, ClientContext) else client_context(identity)
        return await dial(Endpoint("localhost", self.port), tls, reply_bytes_max=est.ANSWER_BYTES_MAX)

    async def send_batch(
        self, identity: Identity | ClientContext, connection: ClientConnection | None = None
    ) -> int:
        """Send a batch on a connection (by default a new one), and abort the connection; return the HTTP status."""
        connection = connection or await self.connect(identity)
        response = await connection.request("POST", PATH, Compressor().compress(encoded(alert(1))))
        connection.abort()
        return response.status


class Notes:
    """Collects the audit events of an enrolment."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    def note(self, event: AuditEvent, value: int = 0) -> None:
        self.events.append(event)


def enrolling_box(center: EnrolmentCenter, serial: str, sending: Sending) -> BoxConfig:
    """Return the configuration of a box that enrols, with an instrument at its first port."""
    instrument = PortInstrument(serial, "chemistry-analyzer")
    return BoxConfig(
        board="rap-4",
        identity=center.files(),
        datacenter=Endpoint("localhost", center.port),
        port=[InstrumentPort(number=1, listen="127.0.0.1", tcp_port=0, instrument=[instrument])],
        sending=sending,
        enrolment=Enrolment(),
    )
