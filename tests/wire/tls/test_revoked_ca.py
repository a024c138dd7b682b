"""A client certificate is refused if a CA in its chain is revoked; revocation lists may come from each CA."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from settings.types import Endpoint
from tests.support.crypto.revocation import CheckingServer
from wire.dial.dialer import dial
from wire.http.connection import ClientConnection, HttpError
from wire.pki.hierarchy import USAGES, Authority, make_key
from wire.process.bounds import Bounds, Level
from wire.tls import peer
from wire.tls.context import ClientContext, Identity, client_context
from wire.tls.peer import PeerCertificate, PeerProblem
from wire.tls.revocation import CrlError, issued_by

DAY = 86_400


def pem(*authorities: Authority) -> bytes:
    return b"".join(authority.certificate.public_bytes(Encoding.PEM) for authority in authorities)


def serial(authority: Authority) -> int:
    return authority.certificate.serial_number


@dataclass(kw_only=True)
class Site(CheckingServer):
    """A server that trusts a root, and two intermediate CAs that issue clients."""

    root: Authority
    first: Authority
    second: Authority
    clients: dict[str, Identity] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path) -> Site:
        key, root = make_key(), Authority.make("vendor root")
        first, second = root.subordinate("first plant"), root.subordinate("second plant")
        server = root.issue(folder, "DC", hosts=("localhost",), trusts=root, key=key)
        site = cls(folder=folder, server=server, root=root, first=first, second=second)
        for name, authority in (("RAP-0", root), ("RAP-1", first), ("RAP-2", second)):
            site.clients[name] = authority.issue(folder, name, trusts=root, key=key)
        return site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.make(tmp_path)


async def connect(port: int, tls: ClientContext) -> ClientConnection:
    return await dial(Endpoint("localhost", port, "127.0.0.1"), tls, reply_bytes_max=1000)


async def is_answered(port: int, tls: ClientContext) -> bool:
    try:
        connection = await connect(port, tls)
        status = (await connection.request("GET", "/")).status
        connection.close()
    except (HttpError, OSError):
        return False
    return status == 200


def test_only_clients_of_the_revoked_ca_are_refused(site: Site) -> None:
    site.publish(site.root.revoke([serial(site.first)]))

    async def client(port: int) -> None:
        answered = {
            name: await is_answered(port, client_context(identity)) for name, identity in site.clients.items()
        }
        assert answered == {"RAP-0": True, "RAP-1": False, "RAP-2": True}

    site.run(client, site.revocations())
    assert site.refused == [(PeerProblem.ISSUER_REVOKED, "RAP-1")]


def test_an_open_connection_is_refused_at_its_next_request_after_its_ca_is_revoked(site: Site) -> None:
    site.publish(site.root.revoke([]))
    revocations = site.revocations()

    async def client(port: int) -> None:
        refused = await connect(port, client_context(site.clients["RAP-1"]))
        other = await connect(port, client_context(site.clients["RAP-2"]))
        assert (await refused.request("GET", "/")).status == (await other.request("GET", "/")).status == 200
        site.publish(site.root.revoke([serial(site.first)]))
        assert revocations.refresh()
        assert (await refused.request("GET", "/")).status == 403
        await refused.lost
        assert (await other.request("GET", "/")).status == 200

    site.run(client, revocations)


def test_a_session_is_not_resumed_after_its_ca_was_revoked(site: Site) -> None:
    site.publish(site.root.revoke([]))
    revocations = site.revocations()

    async def client(port: int) -> None:
        contexts = {name: client_context(identity) for name, identity in site.clients.items()}
        for tls in contexts.values():
            connection = await connect(port, tls)
            assert (await connection.request("GET", "/")).status == 200
            assert connection.transport is not None
            tls.remember(connection.transport, asyncio.get_running_loop().time())
            connection.close()
        site.publish(site.root.revoke([serial(site.first)]))
        assert revocations.refresh()
        second = await connect(port, contexts["RAP-2"])
        assert second.transport is not None
        assert second.transport.get_extra_info("ssl_object").session_reused
        assert (await second.request("GET", "/")).status == 200
        assert not await is_answered(port, contexts["RAP-1"])

    site.run(client, revocations)
    assert site.refused == [(PeerProblem.ISSUER_REVOKED, "RAP-1")]


@pytest.mark.parametrize("is_trusted", [True, False], ids=["in the authorities", "beside the list"])
def test_the_list_of_an_intermediate_ca_revokes_certificates_that_it_issued(
    site: Site, is_trusted: bool
) -> None:
    leaf = x509.load_pem_x509_certificate(site.clients["RAP-1"].certificate.read_bytes())
    parts = [site.root.revoke([]), site.first.revoke([leaf.serial_number])]
    if is_trusted:
        site.server.authorities.write_bytes(pem(site.root, site.first))
    else:
        parts.insert(0, pem(site.first))
    site.publish(*parts)

    async def client(port: int) -> None:
        answered = {
            name: await is_answered(port, client_context(identity)) for name, identity in site.clients.items()
        }
        assert answered == {"RAP-0": True, "RAP-1": False, "RAP-2": True}

    site.run(client, site.revocations())
    assert site.refused == [(PeerProblem.REVOKED, "RAP-1")]


def test_a_revoked_ca_is_refused_although_it_is_among_the_authorities(site: Site) -> None:
    site.server.authorities.write_bytes(pem(site.first, site.root))
    site.publish(site.root.revoke([serial(site.first)]))
    alone = site.clients["RAP-1"].certificate  # the client sends no chain
    leaf = x509.load_pem_x509_certificate(alone.read_bytes())
    alone.write_bytes(leaf.public_bytes(Encoding.PEM))

    async def client(port: int) -> None:
        assert not await is_answered(port, client_context(site.clients["RAP-1"]))

    site.run(client, site.revocations())
    assert site.refused == [(PeerProblem.ISSUER_REVOKED, "RAP-1")]


def test_a_certificate_without_a_list_of_its_ca_is_not_revoked(site: Site) -> None:
    """OpenSSL would refuse it, because it requires a list of each CA in the chain."""
    site.publish(site.root.revoke([]))

    async def client(port: int) -> None:
        assert await is_answered(port, client_context(site.clients["RAP-1"]))

    site.run(client, site.revocations())


def test_an_expired_list_of_the_root_still_revokes_an_intermediate(site: Site) -> None:
    site.publish(site.root.revoke([serial(site.first)], days=0))

    async def client(port: int) -> None:
        assert not await is_answered(port, client_context(site.clients["RAP-1"]))
        assert await is_answered(port, client_context(site.clients["RAP-2"]))

    site.run(client, site.revocations())


def test_a_list_missing_from_a_newer_file_stays_in_force(site: Site) -> None:
    site.publish(pem(site.first), site.root.revoke([serial(site.second)]), site.first.revoke([]))
    revocations = site.revocations()
    key = site.root.certificate.subject.public_bytes(), serial(site.second)
    for parts in ((pem(site.first), site.first.revoke([])), (site.root.revoke([]),)):
        site.publish(*parts)
        with pytest.raises(CrlError, match=r"lacks the list of CN=.*; add it"):
            revocations.refresh()
        assert key in revocations
    site.publish(pem(site.first), site.root.revoke([]), site.first.revoke([]))
    assert revocations.refresh()
    assert key not in revocations


def test_an_older_list_is_not_used_although_the_file_has_a_newer_one_of_another_ca(site: Site) -> None:
    old = as_of(site.root, 1_700_000_000).revoke([])
    new = as_of(site.root, 1_710_000_000).revoke([serial(site.first)])
    site.publish(pem(site.first), new, as_of(site.first, 1_700_000_000).revoke([]))
    revocations = site.revocations()
    site.publish(pem(site.first), old, as_of(site.first, 1_720_000_000).revoke([]))
    with pytest.raises(CrlError, match="list of CN=vendor root is older than the list in force"):
        revocations.refresh()
    site.publish(pem(site.first), old, new, as_of(site.first, 1_720_000_000).revoke([]))
    assert not revocations.refresh(), "the newer of two lists of one CA is not used"


def as_of(authority: Authority, second: int) -> Authority:
    """Return the authority with this time as its current time."""
    return Authority(
        authority.name,
        authority.key,
        authority.certificate,
        authority.root,
        now=datetime.fromtimestamp(second, UTC),
    )


def test_a_list_signed_under_another_root_is_refused(site: Site) -> None:
    foreign = Authority.make("stranger").subordinate("first plant")
    site.publish(pem(foreign), site.root.revoke([]), foreign.revoke([]))
    with pytest.raises(CrlError, match="CN=first plant is not signed by a trusted CA"):
        site.revocations()


def test_a_list_signed_by_a_client_is_refused(site: Site) -> None:
    """The file also contains the client's certificate, which the root issued, but which is not a CA certificate."""
    key = make_key()
    leaf = site.root.certify("RAP-9", key.public_key())
    certificate = x509.load_pem_x509_certificate(leaf)
    forged = Authority("RAP-9", key, certificate, site.root.certificate)
    site.publish(leaf, site.root.revoke([]), forged.revoke([]))
    with pytest.raises(CrlError, match="CN=RAP-9 is not signed by a trusted CA"):
        site.revocations()


def test_a_delta_list_is_refused(site: Site) -> None:
    now = datetime.now(UTC)
    delta = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(site.root.certificate.subject)
        .last_update(now)
        .next_update(now + timedelta(days=1))
        .add_extension(x509.DeltaCRLIndicator(1), critical=True)
        .sign(site.root.key, hashes.SHA256())
    )
    site.publish(delta.public_bytes(Encoding.PEM))
    with pytest.raises(CrlError, match=r"is not a complete one .*install the CA's full list"):
        site.revocations()


def der(certificates: bytes) -> list[bytes]:
    return [
        certificate.public_bytes(Encoding.DER)
        for certificate in x509.load_pem_x509_certificates(certificates)
    ]


def test_a_ca_with_a_certificate_that_is_not_revoked_remains_trusted(site: Site) -> None:
    """The CA's certificate was renewed for the same key, and the old one was revoked."""
    renewed = site.root.subordinate("first plant", site.first.key)
    leaf, _ = der(site.clients["RAP-1"].certificate.read_bytes())
    site.publish(site.root.revoke([serial(site.first)]))
    revocations = site.revocations()

    def problem(*chain: Authority) -> PeerProblem | None:
        certificate = PeerCertificate(leaf, der(pem(*chain)) if chain else ())
        return certificate.problem(USAGES[0], revocations)

    assert problem(site.first) is PeerProblem.ISSUER_REVOKED
    assert problem(renewed) is None
    assert problem(site.first, renewed) is None
    assert problem() is PeerProblem.CHAIN
    site.publish(site.root.revoke([serial(site.first), serial(renewed)]))
    assert revocations.refresh()
    assert problem(site.first, renewed) is PeerProblem.ISSUER_REVOKED


def test_verification_of_very_long_chains_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client may send self-made CA certificates, each of which could have issued every other."""
    key = make_key()
    forged_cas = [Authority.make("first plant", key).subordinate("first plant", key) for _ in range(40)]
    leaf, _ = der(site.clients["RAP-1"].certificate.read_bytes())
    site.publish(site.root.revoke([]))
    certificate = PeerCertificate(leaf, der(pem(*forged_cas)))
    revocations, verified = site.revocations(), []

    def counted(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
        verified.append(certificate)
        return issued_by(certificate, issuer)

    monkeypatch.setattr(peer, "issued_by", counted)
    assert certificate.problem(USAGES[0], revocations) is PeerProblem.CHAIN
    assert 0 < len(verified) < 12**2


@pytest.mark.parametrize(("days", "alarms"), [(23.9, []), (24.0, [True])])
def test_a_list_at_80_percent_of_its_validity_raises_an_alarm_until_it_is_replaced(
    site: Site, days: float, alarms: list[bool]
) -> None:
    start = 1_700_000_000
    now = [start + days * DAY]
    site.publish(
        pem(site.first),
        as_of(site.root, start - 100 * DAY).revoke([], 1000),
        as_of(site.first, start).revoke([], 30),
    )
    revocations, reported = site.revocations(), list[Level]()
    bounds = Bounds(reported.append)
    bounds.add(*revocations.bounds(lambda: now[0]))
    bounds.check()
    assert [level.is_near for level in reported] == alarms
    site.publish(
        pem(site.first),
        as_of(site.root, start).revoke([], 1000),
        as_of(site.first, start + 24 * DAY).revoke([], 30),
    )
    revocations.refresh()
    bounds.check()
    assert not bounds.has_alarm


def test_a_file_at_80_percent_of_its_size_raises_an_alarm(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.publish(site.root.revoke(range(1, 30)))
    size = site.crl.stat().st_size
    revocations, reported = site.revocations(), list[Level]()
    bounds = Bounds(reported.append)
    bounds.add(revocations.bounds(lambda: 0.0)[0])
    for limit in (size * 100 // 79, size * 100 // 80):
        monkeypatch.setattr("wire.tls.revocation.CRL_BYTES_MAX", limit)
        bounds.check()
    assert [(level.name, level.percent) for level in reported] == [("crl-size", 80)]
