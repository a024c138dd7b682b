"""Renewal of the box's certificate against a real data center on loopback; power cuts at every disk operation."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from time import time_ns

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select, true

from agents.box.uplink.certificate_requests import CertificateRequests
from agents.enrolment.certificate_files import BoxCertificates
from agents.enrolment.records import NEXT, USED, IdentityRecord, IdentityRecords
from agents.enrolment.renewal import ProvenConnection, Renewal
from datacenter.enrolment.desk import EnrolmentDesk
from datacenter.store.tables.schema import certificates
from datacenter.vendor_ca.authority import VendorAuthority
from hal.disk import DiskError
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from tests.support.enrolment_center import BOX, EnrolmentCenter, Notes
from tests.support.eventually import eventually
from wire import est
from wire.audit_events import AuditEvent
from wire.http.connection import ClientConnection, HttpError
from wire.pki.hierarchy import Authority, make_key
from wire.pki.request import key_hash
from wire.tls.context import ClientContext, client_context

pytestmark = pytest.mark.usefixtures("quick")
DAY_S = 86_400
CUTS_MAX = 40
"""More than the disk operations of a renewal."""


class Box:
    """The part of a box that renews its certificate, which sends a batch whenever its certificate changes.

    With an `uplink`, requests use the connection of the reports.
    """

    def __init__(self, center: EnrolmentCenter, disk: EmulDisk | None = None, *, uplink: bool = True) -> None:
        self.has_uplink = uplink
        self.center = center
        self.disk = disk or EmulDisk(1 << 20, Random(1))
        self.clock = EmulClock(lambda: time_ns() + round(center.ahead_s * 1e9))
        self.notes = Notes()
        self.requests = CertificateRequests()
        self.configured = center.files()
        self.files: BoxCertificates | None = None
        self.renewal: Renewal | None = None
        self.status = 0
        """The HTTP status of the batch that was sent at the end, with the identity then in use."""
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def records(self) -> IdentityRecords:
        return IdentityRecords(self.disk)

    async def run(self, until: Callable[[], bool]) -> None:
        """Start, run until the condition is true or the power fails, and end."""
        self.renewal = renewal = Renewal(
            BOX,
            self.configured,
            self.records,
            None,
            self.clock,
            Random(2),
            make_key,
            self.requests.ask_est if self.has_uplink else None,
        )
        self.files = await renewal.load()
        assert await self.center.send_batch(self.tls()) in (200, 403)
        running = asyncio.ensure_future(renewal.run(self.dial, self.use, self.notes))
        forwarding = asyncio.ensure_future(self._forward_requests()) if self.has_uplink else None
        try:
            await eventually(lambda: running.done() or until())
            self.status = await self.center.send_batch(self.tls())
        finally:
            running.cancel()
            if forwarding is not None:
                forwarding.cancel()
            with suppress(asyncio.CancelledError, DiskError):
                await running
            renewal.close()

    def tls(self) -> ClientContext:
        assert self.files is not None
        return client_context(self.files.client_identity())

    async def dial(self, tls: ClientContext | None) -> ClientConnection:
        assert tls is not None or not self.has_uplink, "requests share the connection of the reports"
        return await self.center.connect(tls or self.tls())

    async def _forward_requests(self) -> None:
        """Make the requests of the renewal; repeat a request whose connection ends without a response."""
        wake = asyncio.Event()
        self.requests.changed = wake.set
        while True:
            request = await self.requests.next_request(est.ANSWER_BYTES_MAX)
            if request is None:
                wake.clear()
                await wake.wait()
                continue
            connection = await self.center.connect(self.tls())
            with suppress(HttpError):
                response = await connection.request(
                    request.method, request.target, request.body, request.headers
                )
                await self.requests.answered(request, response)
            connection.abort()

    def use(self, files: BoxCertificates, proven: ProvenConnection | None) -> ClientContext:
        self.files = files
        tls = proven.tls if proven else client_context(files.client_identity())
        self._sending.add(asyncio.ensure_future(self._send(tls, proven)))
        return tls

    async def _send(self, tls: ClientContext, proven: ProvenConnection | None) -> None:
        if await self.center.send_batch(tls, proven.connection if proven else None) == 200:
            assert self.renewal is not None
            self.renewal.answered(tls)

    def is_renewed(self) -> bool:
        return AuditEvent.CERTIFICATE_RENEWED in self.notes.events


def test_a_flashed_box_gets_a_certificate_for_a_key_of_its_own(center: EnrolmentCenter) -> None:
    box = Box(center)

    async def act() -> None:
        async with center.serving():
            await box.run(box.is_renewed)

    asyncio.run(act())
    assert box.notes.events == [
        AuditEvent.CERTIFICATE_ISSUED,
        AuditEvent.CERTIFICATE_RENEWED,
    ]
    assert est.CA_CERTIFICATES not in center.requests, "the box has the CAs already"
    record = box.records.load(USED)
    assert record is not None and box.records.load(NEXT) is None
    flashed = x509.load_pem_x509_certificate(center.valid.certificate.read_bytes())
    assert record.certificate().public_key() == record.private_key().public_key() != flashed.public_key()


def test_nothing_is_requested_before_two_thirds_of_the_validity_period(center: EnrolmentCenter) -> None:
    box = Box(center)

    async def act() -> None:
        async with center.serving():
            await box.run(box.is_renewed)
            first = box.records.load(USED)
            before = len(center.requests)
            again = Box(center, box.disk)
            looks = 0

            def looked() -> bool:
                nonlocal looks
                looks += 1
                return looks > 20

            center.ahead_s = 59 * DAY_S
            await again.run(looked)
            assert set(center.requests[before:]) == {"/v1/batches"} and again.records.load(USED) == first
            center.ahead_s = 61 * DAY_S
            third = Box(center, box.disk)
            await third.run(third.is_renewed)
            assert third.records.load(USED) != first
            assert "/.well-known/est/simplereenroll" in center.requests[before:]

    asyncio.run(act())


def is_cut(disk: EmulDisk) -> bool:
    try:
        disk.names()
    except DiskError:
        return True
    return False


@pytest.mark.slow("enumerates power cuts, with a renewal over TLS for each")
def test_acme_sh_6621_a_box_is_never_locked_out_by_a_power_cut_at_any_disk_operation(tmp_path: Path) -> None:
    """After each cut the identity in use is accepted, and the renewal completes with at most one more certificate."""
    center = EnrolmentCenter(tmp_path)
    operations = 0

    async def cut_at(operation: int, seed: int) -> bool:
        """Cut the power in this operation; return whether the operation came before the end of the renewal."""
        box = Box(center, EmulDisk(1 << 20, Random(seed)))
        box.disk.backend.cut_power_at(operation)
        await box.run(box.is_renewed)
        if not is_cut(box.disk):
            return False
        disk = box.disk.backend.reboot()
        requested = IdentityRecords(disk).load(NEXT)
        again = Box(center, disk)
        await again.run(lambda: again.is_renewed() or again.records.load(USED) is not None)
        used = again.records.load(USED)
        assert used is not None and used.chain
        assert again.status == 200
        assert requested is None or requested.key == used.key, "the key that was requested"
        return True

    async def act() -> None:
        nonlocal operations
        async with center.serving():
            for operation in range(1, CUTS_MAX):
                was_cut = [await cut_at(operation, seed) for seed in range(2)]
                if not any(was_cut):
                    return
                operations = operation

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datacenter.enrolment.registration.RENEWALS_PER_DAY", 1000)
        asyncio.run(act())
    center.store.close()
    assert operations == 9, "create, write, flush, rename for key and certificate; rename when it has worked"


def test_a_lost_response_leads_to_the_same_certificate(center: EnrolmentCenter) -> None:
    box = Box(center)
    center.lost_answers = 3

    async def act() -> None:
        async with center.serving():
            await box.run(box.is_renewed)

    asyncio.run(act())
    assert len(list(center.store.read(select(certificates.c.serial_number)))) == 1


def test_after_two_years_one_approval_is_enough(center: EnrolmentCenter) -> None:
    box = Box(center, uplink=False)
    box.configured = center.files(center.expired)

    class Access:
        """Permits everything."""

        def decide(self, *_: object) -> object:
            return type("Permitted", (), {"permitted": True})

        peek = decide

        def where(self, *_: object) -> object:
            return true()

    desk = EnrolmentDesk(center.store, Access())  # type: ignore[arg-type]
    approved = 0

    def approve_once() -> bool:
        nonlocal approved
        waiting = [request for request in desk.requests("supervisor", 0) if request.state == "waiting"]
        if AuditEvent.CERTIFICATE_AWAITS_APPROVAL in box.notes.events and not approved:
            (request,) = waiting
            record = box.records.load(NEXT)
            assert record is not None and key_hash(record.private_key().public_key()) == request.key
            desk.approve("supervisor", BOX, request.key, 0)
            approved += 1
        return box.is_renewed()

    async def act() -> None:
        async with center.serving():
            await box.run(approve_once)
            assert box.status == 200

    asyncio.run(act())
    assert approved == 1
    assert box.notes.events.count(AuditEvent.CERTIFICATE_AWAITS_APPROVAL) == 1


def test_a_roll_over_of_the_ca_reaches_the_box_with_both_roots(center: EnrolmentCenter) -> None:
    new = Authority.make("vendor 2")
    trusted = (center.vendor.root, new.root)
    center.authority = VendorAuthority(new.certificate, new.key, (), trusted)
    roots = center.server_identity.authorities
    roots.write_bytes(roots.read_bytes() + pem(new.certificate))
    box = Box(center)

    async def act() -> None:
        async with center.serving():
            await box.run(box.is_renewed)

    asyncio.run(act())
    record = box.records.load(USED)
    assert record is not None
    record.certificate().verify_directly_issued_by(new.certificate)
    assert {x509.load_der_x509_certificate(der) for der in record.authorities} == set(trusted)


def test_a_new_root_of_the_data_center_reaches_the_box_before_it_is_used(
    center: EnrolmentCenter,
) -> None:
    new, box = Authority.make("public 2"), Box(center)
    center.datacenter_roots = (center.public.root, new.root)

    async def act() -> None:
        async with center.serving():
            await box.run(box.is_renewed)
            requests = center.requests.count(est.DATACENTER_ROOTS)
            center.ahead_s = 61 * DAY_S
            renewing = Box(center, box.disk)
            await renewing.run(renewing.is_renewed)
            assert center.requests.count(est.DATACENTER_ROOTS) == requests == 1, "the roots have not changed"
        center.server_identity = new.issue(
            center.folder / "new", "dc", hosts=("127.0.0.1", "localhost"), trusts=center.vendor
        )
        center.datacenter_roots = (new.root,)
        center.ahead_s = 122 * DAY_S
        async with center.serving():
            with pytest.raises(ssl.SSLCertVerificationError):
                await center.send_batch(center.valid)
            after = Box(center, box.disk)
            await after.run(after.is_renewed)
            assert after.status == 200

    asyncio.run(act())
    record = box.records.load(USED)
    assert record is not None
    assert [x509.load_der_x509_certificate(der) for der in record.roots] == [new.root]


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def test_a_new_certificate_that_is_refused_is_dropped_and_the_old_one_stays(center: EnrolmentCenter) -> None:
    new = Authority.make("vendor 2")
    center.authority = VendorAuthority(new.certificate, new.key, (), (center.vendor.root, new.root))
    box = Box(center)  # the data center's TLS does not trust the new CA

    async def act() -> None:
        async with center.serving():
            await box.run(lambda: AuditEvent.CERTIFICATE_NOT_RENEWED in box.notes.events)
            assert box.status == 200

    asyncio.run(act())
    assert box.records.load(USED) is None
    assert box.files == box.configured


def test_a_certificate_with_which_no_batch_succeeds_is_tried_again_after_the_old_one(
    center: EnrolmentCenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, used = Box(center), []
    plain = box.use

    def use(files: BoxCertificates, proven: ProvenConnection | None) -> ClientContext:
        used.append(files)
        if len(used) >= 5:
            monkeypatch.setattr("agents.enrolment.renewal.PROOF_SECONDS_MAX", 900)
            return plain(files, proven)
        if proven is not None:
            proven.connection.abort()
        return client_context(files.client_identity())

    monkeypatch.setattr(box, "use", use)
    monkeypatch.setattr("agents.enrolment.renewal.PROOF_SECONDS_MAX", 0.1)

    async def act() -> None:
        async with center.serving():
            await box.run(box.is_renewed)

    asyncio.run(act())
    assert [files == box.configured for files in used] == [False, True, False, True, False]


@pytest.mark.parametrize("year", [1970, 2100])
def test_a_wrong_clock_does_not_prevent_the_enrolment_of_a_box(center: EnrolmentCenter, year: int) -> None:
    box = Box(center, uplink=False)  # the flashed certificate has expired by this clock
    box.clock.backend.jump((year - 2026) * 365 * DAY_S * 1_000_000_000)

    async def act() -> None:
        async with center.serving():
            await box.run(box.is_renewed)

    asyncio.run(act())
    assert box.records.load(USED) is not None


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, b"x" * 400])
def test_a_damaged_record_is_ignored(damage: bytes) -> None:
    disk = EmulDisk(1 << 20, Random(1))
    records = IdentityRecords(disk)
    records.save_next(IdentityRecord.of_key(make_key()))
    assert records.load(NEXT) is not None
    disk.create(NEXT, max(1, len(damage)))
    disk.commit(NEXT, 0, damage)
    assert records.load(NEXT) is None


def test_one_changed_bit_is_detected() -> None:
    disk = EmulDisk(1 << 20, Random(1))
    records = IdentityRecords(disk)
    records.save_next(IdentityRecord.of_key(make_key()))
    for seed in range(20):
        data = disk.read(NEXT, 0, disk.size(NEXT))
        bit = Random(seed).randrange(len(data) * 8)
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        disk.commit(NEXT, 0, bytes(changed))
        assert records.load(NEXT) is None
        disk.commit(NEXT, 0, data)


def test_the_key_is_in_files_that_only_the_owner_can_read_and_that_are_removed(
    center: EnrolmentCenter,
) -> None:
    box = Box(center)

    async def act() -> None:
        async with center.serving():
            await box.run(box.is_renewed)

    asyncio.run(act())
    assert box.files is not None
    assert not box.files.key.exists() and not box.files.key.parent.parent.exists()
    with pytest.raises((OSError, ssl.SSLError)):
        box.tls()
