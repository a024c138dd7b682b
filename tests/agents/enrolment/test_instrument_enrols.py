"""Instruments get certificates from a real data center through a complete box; power cuts at each disk operation."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest

from agents.box.box import Box
from agents.box.configuration.config import BoxConfig, InstrumentPort, PortInstrument, Sending
from agents.enrolment.records import NEXT, USED, IdentityRecords
from agents.instrument.enrolment import InstrumentEnrolment
from hal.disk import DiskError
from hal.emul.disk import EmulDisk
from settings.site import Enrolment
from settings.types import Endpoint
from sim.worlds.shared.staff.enrolment import approve_waiting
from tests.support.agents.boxes import CLOCK, connect, disk, running_box
from tests.support.enrolment_center import EnrolmentCenter, Notes, enrolling_box
from tests.support.eventually import eventually
from wire import est
from wire.audit_events import AuditEvent
from wire.http.connection import HttpError
from wire.pki.hierarchy import Validity, make_key
from wire.pki.request import make_request
from wire.tls.context import Identity

SERIAL = "CHEM-1"
CUTS_MAX = 40
"""More than the disk operations of an enrolment."""


class Instrument:
    """The part of an instrument that enrols."""

    def __init__(self, box: Box, delivered: Identity, own_disk: EmulDisk | None = None) -> None:
        self.disk = own_disk or EmulDisk(1 << 20, Random(1))
        self.notes = Notes()
        self.used = 0
        """How often the certificate has changed."""
        end = Endpoint("127.0.0.1", box.tcp_ports[1])
        self.enrolment = InstrumentEnrolment(
            SERIAL, end, delivered, self.disk, clock=CLOCK, random=Random(3), notes=self.notes
        )

    async def run(self, until: Callable[[], bool]) -> None:
        """Start, and run until the condition is true or the power fails."""
        await self.enrolment.load()
        running = asyncio.ensure_future(self.enrolment.run(self._use))
        try:
            await eventually(lambda: running.done() or until())
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError, DiskError):
                await running
            self.enrolment.close()

    def _use(self, _tls: object) -> None:
        self.used += 1

    def is_renewed(self) -> bool:
        return AuditEvent.CERTIFICATE_RENEWED in self.notes.events


@pytest.fixture(autouse=True)
def unlimited(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lift the limits on requests."""
    monkeypatch.setattr("agents.box.intake.certificate_relay.REQUESTS_PER_SECOND", 1000.0)
    monkeypatch.setattr("datacenter.enrolment.registration.RENEWALS_PER_DAY", 1000)
    monkeypatch.setattr("datacenter.enrolment.box_lists.FOLLOW_SECONDS", 0.02)


@asynccontextmanager
async def enrolled_box(center: EnrolmentCenter, box_disk: EmulDisk | None = None) -> AsyncIterator[Box]:
    """Run a data center, and yield a box that has a certificate issued by it."""
    box_disk = box_disk or disk()
    async with center.serving():
        config = enrolling_box(center, SERIAL, Sending(linger_s=0, heartbeat_s=1))
        async with running_box(config, box_disk) as box:
            await eventually(lambda: IdentityRecords(box_disk).load(USED) is not None)
            yield box


def test_an_instrument_gets_a_certificate_for_a_key_of_its_own_through_the_box(
    center: EnrolmentCenter,
) -> None:
    async def act() -> None:
        async with enrolled_box(center) as box:
            instrument = Instrument(box, center.instrument)
            await instrument.run(instrument.is_renewed)
            record = IdentityRecords(instrument.disk).load(USED)
            assert record is not None and instrument.used == 1
            assert record.certificate().public_key() == record.private_key().public_key()
            record.certificate().verify_directly_issued_by(center.vendor.certificate)
            assert est.INSTRUMENT_ENROL in center.requests

    asyncio.run(act())


def test_an_expired_instrument_can_only_enrol_and_needs_one_approval(center: EnrolmentCenter) -> None:
    past = Validity.days(-700)
    expired = center.vendor.issue(center.folder / "lay", SERIAL, trusts=center.vendor, validity=past)

    async def act() -> None:
        async with enrolled_box(center) as box:
            connection = await connect(box, expired)
            response = await connection.request("POST", "/v1/reports", b"")
            assert response.status == 403 and b"request a new one by EST" in response.body
            connection.abort()
            instrument = Instrument(box, expired)
            approved = False

            def approve_once() -> bool:
                nonlocal approved
                if AuditEvent.CERTIFICATE_AWAITS_APPROVAL in instrument.notes.events and not approved:
                    approved = True
                    approve_waiting(center.store, 0)
                return instrument.is_renewed()

            await instrument.run(approve_once)
            assert approved

    asyncio.run(act())


def test_a_request_for_another_instrument_is_refused_by_the_box(center: EnrolmentCenter) -> None:
    async def act() -> None:
        async with enrolled_box(center) as box:
            connection = await connect(box, center.instrument)
            body = est.encode_request(make_request("CHEM-2", make_key()))
            response = await connection.request("POST", est.ENROL, body, est.REQUEST_HEADERS)
            assert response.status == 400 and b"is for CHEM-2, not CHEM-1" in response.body
            assert est.INSTRUMENT_ENROL not in center.requests
            attributes = await connection.request("GET", est.ATTRIBUTES)
            assert attributes.body == est.P256_ATTRIBUTES
            connection.abort()

    asyncio.run(act())


def test_a_denied_instrument_is_also_refused_after_a_restart_without_the_data_center(
    center: EnrolmentCenter,
) -> None:
    box_disk = disk()

    async def status(box: Box) -> int:
        connection = await connect(box, center.instrument)
        try:
            return (await connection.request("GET", est.ATTRIBUTES)).status
        finally:
            connection.abort()

    async def act() -> None:
        async with enrolled_box(center, box_disk) as box:
            instrument = Instrument(box, center.instrument)
            await instrument.run(instrument.is_renewed)
            connection = await connect(box, center.instrument)
            assert (await connection.request("GET", est.ATTRIBUTES)).status == 200
            center.deny_instrument(SERIAL)
            await eventually(lambda: connection.transport is None)
            assert await status(box) == 403
            files = center.files()
            port = InstrumentPort(
                number=1,
                listen="127.0.0.1",
                tcp_port=0,
                instrument=[PortInstrument(SERIAL, "chemistry-analyzer")],
            )
        config = BoxConfig(
            board="rap-4",
            identity=files,
            datacenter=Endpoint("localhost", 1),
            port=[port],
            enrolment=Enrolment(),
        )
        async with running_box(config, box_disk) as box:
            assert await status(box) == 403

    asyncio.run(act())


def is_cut(on: EmulDisk) -> bool:
    try:
        on.names()
    except DiskError:
        return True
    return False


@pytest.mark.slow("enumerates power cuts, with an enrolment over TLS for each")
def test_an_instrument_is_never_locked_out_by_a_power_cut_at_any_disk_operation(
    center: EnrolmentCenter,
) -> None:
    """After each cut the box accepts the identity in use, and the enrolment completes with the requested key."""
    operations = 0

    async def cut_at(box: Box, operation: int) -> bool:
        instrument = Instrument(box, center.instrument, EmulDisk(1 << 20, Random(operation)))
        instrument.disk.backend.cut_power_at(operation)
        await instrument.run(instrument.is_renewed)
        if not is_cut(instrument.disk):
            return False
        on = instrument.disk.backend.reboot()
        requested = IdentityRecords(on).load(NEXT)
        again = Instrument(box, center.instrument, on)
        await again.run(lambda: again.is_renewed() or IdentityRecords(on).load(USED) is not None)
        used = IdentityRecords(on).load(USED)
        assert used is not None and used.chain
        assert requested is None or requested.key == used.key, "the key that was requested"
        return True

    async def act() -> None:
        nonlocal operations
        async with enrolled_box(center) as box:
            for operation in range(1, CUTS_MAX):
                if not await cut_at(box, operation):
                    return
                operations = operation

    asyncio.run(act())
    assert operations == 9, "create, write, flush, rename for key and certificate; rename when it has worked"


def test_without_enrolment_tls_refuses_an_expired_instrument(center: EnrolmentCenter) -> None:
    past = Validity.days(-700)
    expired = center.vendor.issue(center.folder / "lay", SERIAL, trusts=center.vendor, validity=past)

    async def act() -> None:
        instrument = PortInstrument(SERIAL, "chemistry-analyzer")
        config = BoxConfig(
            board="rap-4",
            identity=center.files(),
            datacenter=Endpoint("localhost", 1),
            port=[InstrumentPort(number=1, listen="127.0.0.1", tcp_port=0, instrument=[instrument])],
        )
        async with running_box(config, disk()) as box:
            with pytest.raises((ssl.SSLError, ConnectionResetError, HttpError)):
                connection = await connect(box, expired)
                await connection.request("GET", est.ATTRIBUTES)

    asyncio.run(act())
