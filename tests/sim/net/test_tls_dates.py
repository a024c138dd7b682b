"""Each simulated host verifies certificates at the time of its own clock."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.sim.network import Pair
from wire.http.connection import ClientConnection, HttpError, Request, Response, serve
from wire.pki.hierarchy import LEAF_DAYS, Authority, Validity, make_key
from wire.tls.context import (
    ClientContext,
    Identity,
    client_context,
    client_context_ignoring_dates,
    server_context,
)

ISSUED = datetime(2001, 2, 3, tzinfo=UTC)
DAY = timedelta(days=1)
VALID = ISSUED + DAY


@dataclass
class Site:
    client: Identity
    server: Identity
    old_server: Identity


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder, key = tmp_path_factory.mktemp("pki"), make_key()
    root = Authority.make("root", key, ISSUED)
    issuing = root.subordinate("issuing", key)
    old = Validity.days(-30, ISSUED)
    return Site(
        issuing.issue(folder, "A", trusts=root, key=key),
        issuing.issue(folder, "B", hosts=("b",), trusts=root, key=key),
        issuing.issue(folder / "old", "B", hosts=("b",), trusts=root, key=key, validity=old),
    )


class ClockedPair(Pair):
    """Host "a" is the client and "b" the server, each with a separate clock."""

    def __init__(self, server: Identity, client_at: datetime = VALID, server_at: datetime = VALID) -> None:
        super().__init__()
        self.a.wall_ns = lambda: int(client_at.timestamp()) * 10**9
        self.b.wall_ns = lambda: int(server_at.timestamp()) * 10**9
        self.run(self.b, self._listen(server))

    async def _listen(self, identity: Identity) -> None:
        async def answer(_request: Request) -> Response:
            return Response(200)

        await serve(answer, "b", 443, tls=server_context(identity), body_bytes_max=10, now=lambda: 0.0)

    def get(self, tls: ClientContext) -> int:
        """Return the status of a GET request."""
        return int(self.run(self.a, self._get(tls)))

    async def _get(self, tls: ClientContext) -> int:
        loop = asyncio.get_running_loop()
        transport, connection = await loop.create_connection(
            lambda: ClientConnection("b", 1000), "b", 443, ssl=tls, server_hostname="b"
        )
        status = (await connection.request("GET", "/")).status
        tls.remember(transport, loop.time())
        connection.close()
        return status


def test_hosts_with_correct_clocks_connect_independently_of_the_real_clock(site: Site) -> None:
    assert ClockedPair(site.server).get(client_context(site.client)) == 200


@pytest.mark.parametrize(
    ("client_at", "code"),
    [(ISSUED - 2 * DAY, 9), (datetime(1970, 1, 1, tzinfo=UTC), 9), (ISSUED + (LEAF_DAYS + 1) * DAY, 10)],
)
def test_a_client_with_a_wrong_clock_refuses_the_server(site: Site, client_at: datetime, code: int) -> None:
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        ClockedPair(site.server, client_at=client_at).get(client_context(site.client))
    assert caught.value.verify_code == code


def test_a_server_with_a_wrong_clock_refuses_the_client(site: Site) -> None:
    with pytest.raises((HttpError, OSError)):
        ClockedPair(site.server, server_at=ISSUED - 2 * DAY).get(client_context(site.client))


def test_an_expired_server_certificate_is_refused(site: Site) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        ClockedPair(site.old_server).get(client_context(site.client))


def test_a_context_that_ignores_dates_accepts_a_server_at_any_time(site: Site) -> None:
    for client_at in (ISSUED - 2 * DAY, ISSUED + 5000 * DAY):
        assert (
            ClockedPair(site.server, client_at=client_at).get(client_context_ignoring_dates(site.client))
            == 200
        )


def test_a_context_that_ignores_dates_refuses_a_certificate_of_another_ca(site: Site, tmp_path: Path) -> None:
    other = Authority.make("other", now=ISSUED).issue(
        tmp_path, "B", hosts=("b",), trusts=Authority.make("x", now=ISSUED)
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        ClockedPair(other).get(client_context_ignoring_dates(site.client))


def test_a_resumed_session_is_not_verified_again(site: Site) -> None:
    tls, pair = client_context(site.client), ClockedPair(site.server)
    assert pair.get(tls) == 200
    pair.a.wall_ns = lambda: 0
    assert pair.get(tls) == 200
    tls.forget()
    with pytest.raises(ssl.SSLCertVerificationError):
        pair.get(tls)
