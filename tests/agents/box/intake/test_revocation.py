"""A revoked instrument is refused at its next request, and a new revocation list is used without a restart."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
import pytest
from cryptography.x509 import load_pem_x509_certificate

from agents.box.box import Box
from agents.box.configuration.config import Revocation
from tests.support.agents.boxes import box_config, connect, disk, running_box
from tests.support.agents.stand_in import StandIn
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually
from wire.http.connection import HttpError, serve
from wire.messages import BATCH_BODY_BYTES_MAX
from wire.pki.hierarchy import Authority, make_key
from wire.tls.context import Identity, server_context


class Site:
    """A box, two instruments, and their CA, which issues revocation lists."""

    def __init__(self, folder: Path, pki: Hierarchy) -> None:
        self.pki, self.crl, self.center = pki, folder / "vendor.crl", StandIn()
        self.vendor, key = Authority.make("VENDOR"), make_key()
        self.first, self.second = (
            self.vendor.issue(folder, name, trusts=self.vendor, key=key) for name in ("CHEM-1", "HEMA-1")
        )
        self.box = self.vendor.issue(folder, "RAP-1", hosts=("127.0.0.1",), trusts=self.vendor, key=key)
        self.revoke()

    def revoke(self, *identities: Identity, days: int = 30) -> None:
        serials = [
            load_pem_x509_certificate(identity.certificate.read_bytes()).serial_number
            for identity in identities
        ]
        draft = self.crl.with_suffix(".new")
        draft.write_bytes(self.vendor.revoke(serials, days))
        draft.replace(self.crl)

    async def serve_datacenter(self) -> int:
        tls = server_context(
            Identity(self.pki.datacenter.certificate, self.pki.datacenter.key, self.box.authorities)
        )
        server = await serve(
            self.center.handle, "127.0.0.1", 0, tls=tls, body_bytes_max=BATCH_BODY_BYTES_MAX, now=lambda: 0.0
        )
        return server.port

    def running_box(self, datacenter: int) -> AbstractAsyncContextManager[Box]:
        config = box_config(self.pki, datacenter, linger_s=0.01)
        files = msgspec.structs.replace(
            config.identity,
            certificate=self.box.certificate,
            key=self.box.key,
            vendor_authority=self.box.authorities,
        )
        config = msgspec.structs.replace(config, identity=files, revocation=Revocation(list=self.crl))
        return running_box(config, disk())


@pytest.fixture
def site(tmp_path: Path, pki: Hierarchy) -> Site:
    return Site(tmp_path, pki)


def test_a_revoked_instrument_is_refused_and_the_others_are_not(site: Site) -> None:
    async def scenario() -> None:
        async with site.running_box(await site.serve_datacenter()) as box:
            one, other = await connect(box, site.first), await connect(box, site.second, 2)
            assert (await one.request("GET", "/")).status == 404
            site.revoke(site.first)
            box.refresh_certificates()
            assert (await one.request("GET", "/")).status == 403
            assert (await other.request("GET", "/")).status == 404
            with pytest.raises((HttpError, OSError)):
                await (await connect(box, site.first)).request("GET", "/")
            await eventually(lambda: {"revocations-changed", "instrument-revoked"} <= set(site.center.audits))

    asyncio.run(scenario())


def test_instruments_of_a_revoked_intermediate_ca_are_refused(site: Site, tmp_path: Path) -> None:
    plant = site.vendor.subordinate("PLANT")
    instrument = plant.issue(tmp_path / "plant", "HEMA-1", trusts=site.vendor)

    async def scenario() -> None:
        async with site.running_box(await site.serve_datacenter()) as box:
            one, other = await connect(box, site.first), await connect(box, instrument, 2)
            assert (await other.request("GET", "/")).status == 404
            site.crl.write_bytes(site.vendor.revoke([plant.certificate.serial_number]))
            box.refresh_certificates()
            assert (await other.request("GET", "/")).status == 403
            assert (await one.request("GET", "/")).status == 404
            with pytest.raises((HttpError, OSError)):
                await (await connect(box, instrument, 2)).request("GET", "/")
            await eventually(lambda: "instrument-ca-revoked" in site.center.audits)
            status = await box.status()
            assert status is not None
            assert {"crl-size", "crl-age"} <= {level.name for level in status.levels}

    asyncio.run(scenario())


def test_an_unusable_or_expired_list_is_recorded_and_the_last_one_remains_in_use(site: Site) -> None:
    async def scenario() -> None:
        site.revoke(site.first)
        async with site.running_box(await site.serve_datacenter()) as box:
            site.crl.write_bytes(b"no list")
            box.refresh_certificates()
            with pytest.raises((HttpError, OSError)):
                await (await connect(box, site.first)).request("GET", "/")
            site.revoke(site.first, days=0)
            box.refresh_certificates()
            with pytest.raises((HttpError, OSError)):
                await (await connect(box, site.first)).request("GET", "/")
            noted = {"revocations-unusable", "revocations-expired"}
            await eventually(lambda: noted <= set(site.center.audits))

    asyncio.run(scenario())
