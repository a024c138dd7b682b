"""Checks of certificates that OpenSSL does not make."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.x509 import ObjectIdentifier, load_pem_x509_certificate
from cryptography.x509.oid import ExtendedKeyUsageOID

from settings.types import Endpoint
from tests.support.crypto.revocation import CheckingServer
from wire.dial.dialer import dial
from wire.http.connection import ClientConnection, HttpError
from wire.pki.hierarchy import Authority, PrivateKey, make_key
from wire.tls.context import ClientContext, Identity, client_context
from wire.tls.peer import PeerProblem
from wire.tls.revocation import CRL_BYTES_MAX, CrlError, RevocationList

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(kw_only=True)
class Site(CheckingServer):
    """A CA with a server, and a revocation list beside it."""

    ca: Authority
    key: PrivateKey

    @classmethod
    def make(cls, folder: Path) -> Site:
        ca, key = Authority.make("vendor"), make_key()
        server = ca.issue(folder, "DC", hosts=("localhost",), trusts=ca, key=key)
        site = cls(folder=folder, server=server, ca=ca, key=key)
        site.revoke()
        return site

    def box(self, name: str, *usages: ObjectIdentifier) -> Identity:
        return self.ca.issue(self.folder, name, trusts=self.ca, key=self.key, usages=usages)

    def revoke(self, *identities: Identity, days: int = 30) -> None:
        serials = [
            load_pem_x509_certificate(identity.certificate.read_bytes()).serial_number
            for identity in identities
        ]
        self.publish(self.ca.revoke(serials, days))


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.make(tmp_path_factory.mktemp("site"))


@pytest.fixture
def site(shared_site: Site) -> Site:
    shared_site.revoke()
    shared_site.refused.clear()
    return shared_site


async def connect(port: int, tls: ClientContext) -> ClientConnection:
    return await dial(Endpoint("localhost", port, "127.0.0.1"), tls, reply_bytes_max=1000)


@pytest.mark.parametrize("usages", [(), (SERVER,)])
def test_a_client_whose_certificate_is_not_for_clients_is_refused(
    site: Site, usages: tuple[ObjectIdentifier, ...]
) -> None:
    box = site.box(f"RAP-{len(usages)}", *usages)

    async def client(port: int) -> None:
        with pytest.raises((HttpError, OSError)):
            await (await connect(port, client_context(box))).request("GET", "/")

    site.run(client)
    # OpenSSL itself refuses a certificate that states another purpose
    assert site.refused == ([] if usages else [(PeerProblem.PURPOSE, "RAP-0")])


def test_a_client_whose_certificate_is_for_clients_is_answered(site: Site) -> None:
    box = site.box("RAP-2", CLIENT)

    async def client(port: int) -> None:
        assert (await (await connect(port, client_context(box))).request("GET", "/")).body == b"RAP-2"

    site.run(client, site.revocations())
    assert site.refused == []


@pytest.mark.parametrize("usages", [(), (CLIENT,)])
def test_a_server_whose_certificate_is_not_for_servers_is_refused(
    site: Site, usages: tuple[ObjectIdentifier, ...]
) -> None:
    name = f"DC-{len(usages)}"
    server = site.ca.issue(
        site.folder,
        name,
        hosts=("localhost",),
        trusts=site.ca,
        key=site.key,
        usages=usages,
    )
    other = Site(folder=site.folder, server=server, ca=site.ca, key=site.key)
    box = site.box("RAP-3", CLIENT)

    async def client(port: int) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(port, client_context(box))

    other.run(client)


def test_a_revoked_client_is_refused_when_it_connects_and_when_it_resumes(site: Site) -> None:
    good, bad = site.box("RAP-4", CLIENT), site.box("RAP-5", CLIENT)
    revocations = site.revocations()

    async def client(port: int) -> None:
        tls = client_context(bad)
        first = await connect(port, tls)
        assert (await first.request("GET", "/")).status == 200
        assert first.transport is not None
        tls.remember(first.transport, 0.0)
        first.close()
        site.revoke(bad)
        assert revocations.refresh()
        for context in (tls, client_context(bad)):
            with pytest.raises((HttpError, OSError)):
                await (await connect(port, context)).request("GET", "/")
        assert (await (await connect(port, client_context(good))).request("GET", "/")).status == 200

    site.run(client, revocations)
    assert site.refused == [(PeerProblem.REVOKED, "RAP-5")] * 2


def test_a_client_revoked_while_connected_is_refused_at_its_next_request(site: Site) -> None:
    box, revocations = site.box("RAP-6", CLIENT), site.revocations()

    async def client(port: int) -> None:
        connection = await connect(port, client_context(box))
        assert (await connection.request("GET", "/")).status == 200
        site.revoke(box)
        assert revocations.refresh()
        assert (await connection.request("GET", "/")).status == 403
        await connection.lost

    site.run(client, revocations)


def test_a_removed_revocation_takes_effect(site: Site) -> None:
    box = site.box("RAP-7", CLIENT)
    site.revoke(box)
    revocations = site.revocations()
    site.revoke()
    assert revocations.refresh()
    assert not revocations.refresh()

    async def client(port: int) -> None:
        assert (await (await connect(port, client_context(box))).request("GET", "/")).status == 200

    site.run(client, revocations)


def test_a_list_past_its_next_update_stays_in_force(site: Site) -> None:
    box = site.box("RAP-8", CLIENT)
    site.revoke(box, days=0)
    revocations = site.revocations()

    async def client(port: int) -> None:
        with pytest.raises((HttpError, OSError)):
            await (await connect(port, client_context(box))).request("GET", "/")

    site.run(client, revocations)
    assert site.refused == [(PeerProblem.REVOKED, "RAP-8")]


def test_one_file_can_contain_the_lists_of_several_cas(site: Site) -> None:
    other = Authority.make("second vendor")
    both = site.folder / "both.crt"
    both.write_bytes(site.server.authorities.read_bytes() + other.issue(
        site.folder, "X-1", trusts=other
    ).authorities.read_bytes())  # fmt: skip
    site.crl.write_bytes(site.ca.revoke([5]) + b"\nsome text\n" + other.revoke([6]))
    revocations = RevocationList(site.crl, both)
    subjects = [ca.certificate.subject.public_bytes() for ca in (site.ca, other)]
    assert [(subjects[0], 5) in revocations, (subjects[1], 6) in revocations] == [True, True]
    assert (subjects[0], 6) not in revocations


UNUSABLE: dict[str, tuple[Callable[[Site], bytes], str]] = {
    "empty": (lambda site: b"", "BEGIN X509 CRL"),
    "a certificate": (lambda site: site.server.certificate.read_bytes(), "BEGIN X509 CRL"),
    "cut off": (lambda site: site.ca.revoke([1])[:-40], "BEGIN X509 CRL"),
    "garbage": (
        lambda site: b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
        "is not a certificate revocation list",
    ),
    "of another CA": (
        lambda site: Authority.make("other").revoke([1]),
        "CN=other is not signed by a trusted CA",
    ),
    "with another key": (lambda site: Authority.make("vendor").revoke([1]), "not signed by a trusted CA"),
    "too long": (lambda site: bytes(CRL_BYTES_MAX + 1), "longer than"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_list_leaves_the_previous_one_in_force(site: Site, case: str) -> None:
    make, message = UNUSABLE[case]
    subject = site.ca.certificate.subject.public_bytes()
    site.crl.write_bytes(site.ca.revoke([7]))
    revocations = site.revocations()
    site.crl.write_bytes(make(site))
    with pytest.raises(CrlError, match=message):
        revocations.refresh()
    assert not revocations.refresh(), "one error for each version of the file"
    assert (subject, 7) in revocations
    with pytest.raises(CrlError, match=message):
        site.revocations()
    site.crl.unlink()
    with pytest.raises(FileNotFoundError):
        revocations.refresh()
    assert (subject, 7) in revocations
    site.crl.write_bytes(site.ca.revoke([8]))
    assert revocations.refresh()
    assert (subject, 8) in revocations


def test_an_older_list_is_not_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    old = site.crl.read_bytes()
    clock = iter([2_000_000_000])
    import datetime

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return datetime.datetime.fromtimestamp(next(clock), tz)

    with monkeypatch.context() as patch:
        patch.setattr("wire.pki.hierarchy.datetime.datetime", Later)
        site.crl.write_bytes(site.ca.revoke([9]))
    revocations = site.revocations()
    site.crl.write_bytes(old)
    with pytest.raises(CrlError, match="older than the list in force"):
        revocations.refresh()
    assert (site.ca.certificate.subject.public_bytes(), 9) in revocations
