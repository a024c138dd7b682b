"""Renewed certificates are used without a restart, and an expired one is reported."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from time import time

import msgspec
import pytest
from cryptography import x509

from agents.box.box import Box, Hardware
from agents.box.configuration.config import BoxConfig
from agents.box.health.alarm import AlarmLed
from agents.enrolment.certificate_files import BoxCertificates
from hal.emul.ethernet import EmulEthernetPort
from hal.emul.indicators import EmulIndicators
from hal.indicators import Light
from settings.types import Endpoint
from tests.support.agents.boxes import CLOCK, box_config, connect, disk
from tests.support.agents.stand_in import StandIn
from tests.support.crypto.hierarchy import LOOPBACK, Hierarchy
from tests.support.eventually import eventually
from wire.dial.dialer import dial
from wire.http.connection import Response, serve
from wire.messages import BATCH_BODY_BYTES_MAX
from wire.pki.hierarchy import Authority, PrivateKey, Validity, make_key
from wire.tls.context import Identity, client_context, server_context
from wire.tls.peer import ClientCheck


@dataclass
class Site:
    """A box with its own files, and a data center that records the serial number of each client certificate."""

    folder: Path
    vendor: Authority
    keys: tuple[PrivateKey, PrivateKey]
    lights: EmulIndicators = field(default_factory=lambda: EmulIndicators(["alarm"], []))
    center: StandIn = field(default_factory=StandIn)
    clients: list[int] = field(default_factory=list)

    def issue(self, days: int = 300, key: int = 0, name: str = "RAP-1") -> Identity:
        now = datetime.now(UTC)
        validity = Validity(now - timedelta(400), now + timedelta(days))
        return self.vendor.issue(
            self.folder / "issued",
            name,
            hosts=LOOPBACK,
            trusts=self.vendor,
            key=self.keys[key],
            validity=validity,
        )

    def install(self, identity: Identity, *kinds: str) -> int:
        """Copy the files of these kinds (default: both) to the box; return the certificate's serial number."""
        for kind in kinds or ("certificate", "key"):
            (self.folder / kind).write_bytes(getattr(identity, kind).read_bytes())
        return x509.load_pem_x509_certificate(identity.certificate.read_bytes()).serial_number

    def config(self, pki: Hierarchy, port: int) -> BoxConfig:
        trusted = self.issue(name="INSTRUMENT").authorities
        files = BoxCertificates(
            certificate=self.folder / "certificate",
            key=self.folder / "key",
            vendor_authority=trusted,
            datacenter_authority=trusted,
        )
        return msgspec.structs.replace(box_config(pki, port, linger_s=0), identity=files)

    def begin(self, connection: ssl.SSLObject, name: str) -> Callable[[], bool]:
        """See `ClientCheck.begin`."""
        self.clients.append(serial(connection))
        return lambda: False

    @asynccontextmanager
    async def running(self, pki: Hierarchy) -> AsyncIterator[Box]:
        identity = self.issue(name="INGEST")
        check = ClientCheck(None, lambda *_: None)
        check.begin = self.begin  # type: ignore[method-assign]
        server = await serve(
            self.center.handle,
            "127.0.0.1",
            0,
            tls=server_context(identity),
            body_bytes_max=BATCH_BODY_BYTES_MAX,
            now=time,
            check=check,
        )
        hardware = Hardware(disk(), CLOCK, EmulEthernetPort("uplink"), indicators=self.lights)
        box = Box(self.config(pki, server.port), hardware, Random(1))
        task = asyncio.ensure_future(box.run())
        try:
            await eventually(lambda: len(box.tcp_ports) == 2)
            yield box
        finally:
            task.cancel()
            await asyncio.wait([task])
            await server.close()

    async def served(self, box: Box) -> int:
        """Return the serial number of the certificate that the box presents to instruments."""
        connection = await connect(box, self.issue(name="CHEM-1"))
        assert connection.transport is not None
        number = serial(connection.transport.get_extra_info("ssl_object"))
        connection.abort()
        return number

    async def until_noted(self, event: str) -> None:
        await self.center.until(lambda: event in self.center.audits)


def serial(connection: ssl.SSLObject) -> int:
    der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


@pytest.fixture(scope="module")
def keys() -> tuple[PrivateKey, PrivateKey]:
    return make_key(), make_key()


@pytest.fixture
def site(tmp_path: Path, keys: tuple[PrivateKey, PrivateKey]) -> Site:
    return Site(tmp_path, Authority.make("VENDOR", keys[1]), keys)


def refresh(box: Box, times: int = 2) -> None:
    for _ in range(times):
        box.refresh_certificates()


def test_renewed_files_are_used_for_new_connections_on_both_sides(site: Site, pki: Hierarchy) -> None:
    async def scenario() -> None:
        old = site.install(site.issue())
        async with site.running(pki) as box:
            await site.until_noted("started")
            refresh(box)
            assert await site.served(box) == old
            new = site.install(site.issue(key=1))
            refresh(box, 1)
            assert await site.served(box) == old  # the files may be incomplete
            site.center.misbehaviours.append(lambda _: Response(500, close=True))
            refresh(box, 1)
            assert await site.served(box) == new
            await site.until_noted("certificate-renewed")
            await eventually(lambda: site.clients == [old, new])

    asyncio.run(scenario())


def test_sighup_reloads_certificates_immediately(site: Site, pki: Hierarchy) -> None:
    async def scenario() -> None:
        site.install(site.issue())
        async with site.running(pki) as box:
            new = site.install(site.issue(key=1))
            box.refresh_certificates(at_once=True)
            assert await site.served(box) == new

    asyncio.run(scenario())


@pytest.mark.parametrize("first", ["certificate", "key"])
def test_a_half_written_pair_is_not_used_until_it_is_complete(site: Site, pki: Hierarchy, first: str) -> None:
    async def scenario() -> None:
        old = site.install(site.issue())
        async with site.running(pki) as box:
            renewed = site.issue(key=1)
            site.install(renewed, first)
            refresh(box, 5)
            assert await site.served(box) == old
            await site.until_noted("certificate-not-renewed")
            assert site.center.audits.count("certificate-not-renewed") == 1
            new = site.install(renewed)
            refresh(box)
            assert await site.served(box) == new

    asyncio.run(scenario())


@pytest.mark.parametrize("damage", ["emptied", "removed", "expired"])
def test_unusable_files_are_not_used(site: Site, pki: Hierarchy, damage: str) -> None:
    async def scenario() -> None:
        old = site.install(site.issue())
        async with site.running(pki) as box:
            if damage == "emptied":
                (site.folder / "certificate").write_bytes(b"")
            elif damage == "removed":
                (site.folder / "key").unlink()
            else:
                site.install(site.issue(-1))
            refresh(box)
            assert await site.served(box) == old
            await site.until_noted("certificate-not-renewed")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("days", "event", "light"),
    [(-1, "certificate-refused", Light.FAST), (20, "certificate-expires-soon", Light.SLOW)],
)
def test_an_expired_certificate_is_shown_in_audit_log_status_and_led_until_it_is_renewed(
    site: Site, pki: Hierarchy, days: int, event: str, light: Light
) -> None:
    async def scenario() -> None:
        site.install(site.issue(days))
        async with site.running(pki) as box:
            await eventually(lambda: site.lights.backend.lights["alarm"] is light)
            status = await box.status()
            assert status is not None
            assert [problem.file.name for problem in status.certificate.problems] == ["certificate"]
            site.install(site.issue(key=1))
            refresh(box)
            assert site.lights.backend.lights["alarm"] is Light.OFF
            status = await box.status()
            assert status is not None
            assert status.certificate.problems == ()
            await site.until_noted(event)
            await site.until_noted("certificate-renewed")

    asyncio.run(scenario())


def test_a_tls_session_of_another_context_is_not_resumed(site: Site, pki: Hierarchy) -> None:
    async def scenario() -> None:
        site.install(site.issue())
        async with site.running(pki) as box:
            connection = await connect(box, site.issue(name="CHEM-1"))
            await connection.request("GET", "/")
            assert connection.transport is not None
            renewed = client_context(site.issue(key=1, name="CHEM-1"))
            renewed.remember(connection.transport, 0.0)
            far_end = Endpoint("127.0.0.1", box.tcp_ports[1])
            again = await dial(far_end, renewed, reply_bytes_max=1000)
            assert (await again.request("GET", "/")).status == 404

    asyncio.run(scenario())


def test_the_alarm_led_shows_the_most_urgent_request() -> None:
    lights = EmulIndicators(["alarm"], [])
    led = AlarmLed(lights)
    firewall, certificate = led.used_by("firewall"), led.used_by("certificate")
    shown = []
    for show, light in (
        (certificate, Light.SLOW),
        (firewall, Light.FAST),
        (certificate, Light.OFF),
        (certificate, Light.SLOW),
        (firewall, Light.OFF),
        (certificate, Light.OFF),
    ):
        show(light)
        shown.append(lights.backend.lights["alarm"])
    assert shown == [Light.SLOW, Light.FAST, Light.FAST, Light.FAST, Light.SLOW, Light.OFF]
    AlarmLed(None).show("firewall", Light.FAST)
