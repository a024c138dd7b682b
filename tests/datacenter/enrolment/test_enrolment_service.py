"""EST over mutual TLS, with curl and OpenSSL as clients, expired certificates, and the deny-list."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from sqlalchemy import insert

from datacenter.enrolment.box_lists import DeniedBoxes
from datacenter.enrolment.registration import RegistrationAuthority
from datacenter.enrolment.service import EnrolmentService, guarded
from datacenter.ingest import PATH, make_ingest
from datacenter.store.queue import StoreQueue
from datacenter.store.store import Store
from datacenter.store.tables.schema import denied_boxes
from datacenter.vendor_ca.authority import VendorAuthority
from settings.types import Endpoint
from tests.support.datacenter.store.batches import alert, encoded
from tests.support.eventually import eventually
from wire import est
from wire.compression import Compressor
from wire.dial.dialer import dial
from wire.http.connection import ClientConnection, HttpError, serve
from wire.messages import TIME_PATH
from wire.pki.hierarchy import Authority, Validity, make_key
from wire.pki.request import make_request
from wire.tls.context import Identity, client_context, server_context

BOX = "RAP-0001"


class Center:
    """A data center that issues certificates, and the identities of one box."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.vendor = folder, Authority.make("vendor")
        self.server = self.vendor.issue(folder, "dc", hosts=("localhost",), trusts=self.vendor)
        self.valid = self.vendor.issue(folder, BOX, trusts=self.vendor)
        self.expired = self.vendor.issue(
            folder / "old", BOX, trusts=self.vendor, validity=Validity.days(-700)
        )
        self.store = Store(f"sqlite:///{folder / 'store.db'}")
        self.store.authorize([BOX], 0)
        self.denied = DeniedBoxes(self.store)
        self.port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Center]:
        authority = VendorAuthority(self.vendor.certificate, self.vendor.key, (), (self.vendor.root,))
        registration = RegistrationAuthority(self.store, authority, lambda: time.time_ns() // 1_000_000)
        with ThreadPoolExecutor(1) as executor:
            enrolment = EnrolmentService(registration, executor)
            queue = StoreQueue(executor, self.store.ingest_all)
            ingest = guarded(make_ingest(lambda: 0, queue, enrolment=enrolment), self.denied, time.time)
            tls = server_context(self.server, checks_dates=False)
            server = await serve(ingest, "127.0.0.1", 0, tls=tls, body_bytes_max=100_000, now=time.time)
            self.port = server.port
            yield self
            await server.close()

    async def connect(self, identity: Identity) -> ClientConnection:
        endpoint = Endpoint("localhost", self.port)
        return await dial(endpoint, client_context(identity), reply_bytes_max=est.ANSWER_BYTES_MAX)


@pytest.fixture
def center(tmp_path: Path) -> Iterator[Center]:
    center = Center(tmp_path)
    yield center
    center.store.close()


async def enrol(connection: ClientConnection, name: str = BOX) -> est.EnrolmentAnswer:
    body = est.encode_request(make_request(name, make_key()))
    return est.read_answer(await connection.request("POST", est.REENROL, body, est.REQUEST_HEADERS))


async def send_batch(connection: ClientConnection) -> int:
    return (await connection.request("POST", PATH, Compressor().compress(encoded(alert(1))))).status


async def ran(*command: str | Path) -> bytes:
    """Run a command that must succeed; return its output."""
    process = await asyncio.create_subprocess_exec(*map(str, command), stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output


def test_curl_and_openssl_enrol_as_an_independent_client(center: Center) -> None:
    async def act() -> None:
        folder, box = center.folder, center.valid
        await ran(
            *("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *(
                "-keyout",
                folder / "new.key",
                "-subj",
                f"/CN={BOX}",
                "-outform",
                "DER",
                "-out",
                folder / "req",
            ),
        )
        (folder / "req.b64").write_bytes(base64.encodebytes((folder / "req").read_bytes()))
        async with center.serving():
            curl = ("curl", "-sSf", "--cert", box.certificate, "--key", box.key, "--cacert", box.authorities)
            url = f"https://localhost:{center.port}{est.ENROL}"
            body = ("-H", "Content-Type: application/pkcs10", "--data-binary", f"@{folder / 'req.b64'}")
            (folder / "answer").write_bytes(base64.b64decode(await ran(*curl, *body, url)))
            known = await ran(*curl, f"https://localhost:{center.port}{est.CA_CERTIFICATES}")
        (folder / "known").write_bytes(base64.b64decode(known))
        for name in ("answer", "known"):
            printing = ("openssl", "pkcs7", "-inform", "DER", "-print_certs", "-in", folder / name)
            (folder / f"{name}.pem").write_bytes(await ran(*printing))
        verify = ("openssl", "verify", "-CAfile", folder / "known.pem", folder / "answer.pem")
        assert (await ran(*verify)).endswith(b"OK\n")
        of_key = await ran("openssl", "pkey", "-in", folder / "new.key", "-pubout")
        assert await ran("openssl", "x509", "-in", folder / "answer.pem", "-noout", "-pubkey") == of_key

    asyncio.run(act())


def test_the_new_certificate_works_at_once(center: Center) -> None:
    async def act() -> None:
        key = make_key()
        async with center.serving():
            old = await center.connect(center.valid)
            body = est.encode_request(make_request(BOX, key))
            answer = est.read_answer(await old.request("POST", est.REENROL, body, est.REQUEST_HEADERS))
            assert isinstance(answer, est.Issued)
            identity = center.vendor.issue(center.folder / "new", BOX, trusts=center.vendor, key=key)
            identity.certificate.write_bytes(pem(answer.certificates))
            assert await send_batch(await center.connect(identity)) == 200

    asyncio.run(act())


def pem(certificates: tuple[x509.Certificate, ...]) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def test_with_an_expired_certificate_a_box_can_only_enrol_and_ask_for_the_time(center: Center) -> None:
    async def act() -> None:
        async with center.serving():
            assert await send_batch(await center.connect(center.expired)) == 403
            connection = await center.connect(center.expired)
            assert (await connection.request("GET", TIME_PATH)).status == 204
            assert isinstance(await enrol(connection), est.Waiting)
            refused = await connection.request("GET", "/v1/files/x")
            assert refused.status == 403 and b"request a new one by EST" in refused.body

    asyncio.run(act())


def test_with_an_expired_certificate_a_box_cannot_forward_requests_of_instruments(center: Center) -> None:
    async def act() -> None:
        async with center.serving():
            connection = await center.connect(center.expired)
            body = est.encode_request(make_request("CHEM-1", make_key()))
            response = await connection.request("POST", est.INSTRUMENT_ENROL, body, est.REQUEST_HEADERS)
            assert response.status == 403 and b"is not valid at present" in response.body
            valid = await center.connect(center.valid)
            without = await valid.request("POST", est.INSTRUMENT_ENROL, body, est.REQUEST_HEADERS)
            assert without.status == 401, "the header with the instrument's certificate is missing"
            valid.abort()

    asyncio.run(act())


def test_ca_certificates_are_sent_only_if_they_have_changed(center: Center) -> None:
    async def act() -> None:
        async with center.serving():
            connection = await center.connect(center.valid)
            first = await connection.request("GET", est.CA_CERTIFICATES)
            assert est.decode_certificates(first.body) == (center.vendor.root,)
            etag = est.etag_of([center.vendor.root])
            assert first.headers["etag"] == etag
            again = await connection.request("GET", est.CA_CERTIFICATES, headers=f"If-None-Match: {etag}\r\n")
            assert (again.status, again.body) == (304, b"")

    asyncio.run(act())


def test_a_request_for_another_box_is_refused(center: Center) -> None:
    async def act() -> None:
        async with center.serving():
            answer = await enrol(await center.connect(center.valid), "RAP-0002")
            assert isinstance(answer, est.Refused) and answer.status == 400
            assert "is for RAP-0002, not RAP-0001" in answer.reason

    asyncio.run(act())


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", est.ENROL, b"no request", 400),
        ("POST", est.ENROL, b"A" * (est.REQUEST_BYTES_MAX + 1), 413),
        ("GET", est.ENROL, b"", 405),
        ("GET", est.PREFIX + "serverkeygen", b"", 404),
        ("GET", est.ATTRIBUTES, b"", 200),
    ],
)
def test_other_requests_are_answered_by_their_status(
    center: Center, method: str, path: str, body: bytes, status: int
) -> None:
    async def act() -> None:
        async with center.serving():
            connection = await center.connect(center.valid)
            assert (await connection.request(method, path, body)).status == status

    asyncio.run(act())


def test_a_denied_box_loses_its_connections_and_is_refused(
    center: Center, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacenter.enrolment.box_lists.FOLLOW_SECONDS", 0.01)

    async def act() -> None:
        async with center.serving():
            following = asyncio.ensure_future(center.denied.follow(None))
            connection = await center.connect(center.valid)
            assert await send_batch(connection) == 200
            with center.store.transaction() as database:
                row = {"box": BOX, "denied_at_ms": 0, "denied_by": "supervisor", "reason": "stolen"}
                database.execute(insert(denied_boxes).values(row))
            await eventually(lambda: connection.transport is None)
            with pytest.raises(HttpError):
                await send_batch(connection)
            refused = await enrol(await center.connect(center.valid))
            assert isinstance(refused, est.Refused) and refused.status == 403
            assert "deny-list" in refused.reason
            following.cancel()

    asyncio.run(act())
