"""strongSwan's independent EST client gets certificates from the data center and through a box."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agents.box.configuration.config import BoxConfig, InstrumentPort, PortInstrument, Sending
from settings.site import Enrolment
from settings.types import Endpoint
from tests.support.agents.boxes import disk, running_box
from tests.support.enrolment_center import BOX, LOOPBACK, EnrolmentCenter
from tests.support.eventually import eventually
from wire import est
from wire.pki.hierarchy import make_key
from wire.pki.request import make_request
from wire.tls.context import Identity

PKI = shutil.which("pki")
pytestmark = pytest.mark.skipif(PKI is None, reason="needs strongSwan's pki: make setup-kernel")


async def enrol(
    folder: Path, name: str, identity: Identity, port: int, *authorities: Path
) -> x509.Certificate:
    """Request a certificate for a new key with strongSwan; return it."""
    assert PKI is not None
    key = make_key()
    request = folder / "request.der"
    request.write_bytes(make_request(name, key).public_bytes(Encoding.DER))
    trusted = [argument for file in authorities for argument in ("--cacert", str(file))]
    own = ["--cert", str(identity.certificate), "--key", str(identity.key)]
    url = ["--url", f"https://localhost:{port}", "--in", str(request), "--outform", "pem"]
    pipe = asyncio.subprocess.PIPE
    program = await asyncio.create_subprocess_exec(
        PKI, "--est", *url, *trusted, *own, stdout=pipe, stderr=pipe
    )
    output, messages = await program.communicate()
    assert program.returncode == 0, messages.decode()
    certificate = x509.load_pem_x509_certificate(output)
    assert certificate.public_key() == key.public_key()
    return certificate


def test_strongswan_renews_the_certificate_of_a_box(tmp_path: Path) -> None:
    center = EnrolmentCenter(tmp_path)

    async def act() -> None:
        async with center.serving():
            authorities = center.valid.authorities, center.instrument.authorities
            issued = await enrol(tmp_path, BOX, center.valid, center.port, *authorities)
            issued.verify_directly_issued_by(center.vendor.certificate)
            assert center.requests == [est.REENROL]

    asyncio.run(act())
    center.store.close()


def test_strongswan_renews_the_certificate_of_an_instrument_through_the_box(tmp_path: Path) -> None:
    center = EnrolmentCenter(tmp_path)
    serving = center.vendor.issue(tmp_path / "box", BOX, hosts=LOOPBACK, trusts=center.public)
    instrument = PortInstrument("CHEM-1", "chemistry-analyzer")

    async def act() -> None:
        async with center.serving():
            config = BoxConfig(
                board="rap-4",
                identity=center.files(serving),
                datacenter=Endpoint("localhost", center.port),
                port=[InstrumentPort(number=1, listen="127.0.0.1", tcp_port=0, instrument=[instrument])],
                sending=Sending(linger_s=0),
                enrolment=Enrolment(),
            )
            async with running_box(config, disk()) as box:
                await eventually(lambda: box.is_connected)
                authority = center.instrument.authorities
                issued = await enrol(tmp_path, "CHEM-1", center.instrument, box.tcp_ports[1], authority)
                issued.verify_directly_issued_by(center.vendor.certificate)
            assert est.INSTRUMENT_REENROL in center.requests

    asyncio.run(act())
    center.store.close()
