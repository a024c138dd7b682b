"""A complete box requests its certificate, and uses it towards the data center and the instruments."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cryptography import x509

from agents.box.configuration.config import Sending
from agents.enrolment.records import USED, IdentityRecords
from tests.support.agents.boxes import connect, disk, running_box
from tests.support.enrolment_center import EnrolmentCenter, enrolling_box
from tests.support.eventually import eventually
from wire.http.connection import ClientConnection


def peer(connection: ClientConnection) -> x509.Certificate:
    assert connection.transport is not None
    der = connection.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(der)


def test_a_flashed_box_enrols_and_keeps_its_certificate_over_a_restart(tmp_path: Path) -> None:
    center, box_disk = EnrolmentCenter(tmp_path), disk()

    async def scenario() -> None:
        async with center.serving():
            config = enrolling_box(center, "CHEM-1", Sending(linger_s=0))
            async with running_box(config, box_disk) as box:
                await eventually(lambda: IdentityRecords(box_disk).load(USED) is not None)
                record = IdentityRecords(box_disk).load(USED)
                assert record is not None
                connection = await connect(box, center.instrument)
                assert peer(connection) == record.certificate(), "towards instruments"
                connection.close()
            issued = [path for path in center.requests if path.endswith("enroll")]
            async with running_box(config, box_disk) as box:
                connection = await connect(box, center.instrument)
                assert peer(connection) == record.certificate(), "after a restart"
                connection.close()
                await eventually(lambda: box.is_connected)
            assert [path for path in center.requests if path.endswith("enroll")] == issued

    asyncio.run(scenario())
    center.store.close()
