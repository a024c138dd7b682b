"""The simulated proxies, tested with the box's dialler and with raw requests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
from msgspec import structs

from settings.types import Endpoint, ProxyKind
from sim.net.host import Network, SimHost
from sim.net.link import Link
from sim.net.loop import SimLoop
from sim.proxies.kind import proxy_kinds
from sim.proxies.relay import Behavior
from tests.support.sim.network import CLINIC, LAN, Recorder
from wire.dial.dialer import dial
from wire.dial.proxy import ProxyError, ProxyErrorKind
from wire.http.connection import HttpError, Request, Response, serve
from wire.pki.hierarchy import Authority, make_key
from wire.tls.context import client_context, server_context

KINDS = proxy_kinds()
ALL = [(name, auth) for name, kind in KINDS.items() for auth in kind.auths]
WITH_PASSWORD = [(name, auth) for name, auth in ALL if auth != "none"]


T = TypeVar("T")


class Site:
    """A box, a host with a proxy, and a server behind the proxy."""

    def __init__(self, folder: Path, name: ProxyKind, auth: str) -> None:
        kind = KINDS[name]
        self.settings = kind.client_settings("proxy", auth)
        self.loop, network = SimLoop(), Network()
        self.box, self.proxy, self.far = (SimHost(network, name) for name in ("box", "proxy", "far"))
        network.connect(self.box, self.proxy, Link(self.loop.env, "up", CLINIC, Random(1)))
        network.connect(self.proxy, self.far, Link(self.loop.env, "back", LAN, Random(2)))
        key = make_key()
        authority = Authority.make("root", key=key)
        identity = authority.issue(folder, "FAR", hosts=("far",), trusts=authority, key=key)
        self.tls = client_context(identity)
        self.behavior = Behavior()

        async def answer(request: Request) -> Response:
            return Response(200, request.body[::-1])

        async def listen() -> None:
            await self.loop.create_server(
                lambda: kind.accept(self.behavior, auth, folder), "proxy", kind.port
            )

        self.run(
            self.far,
            serve(answer, "far", 443, tls=server_context(identity), body_bytes_max=1 << 20, now=lambda: 0.0),
        )
        self.run(self.proxy, listen())
        self.box.power_on()

    def run(self, host: SimHost, coro: Coroutine[Any, Any, T]) -> T:
        incarnation = host.incarnation or host.power_on()
        result: T = self.loop.run_until_complete(incarnation.run(self.loop, coro))
        return result

    def post(self, host: str = "far", body: bytes = b"hello", **changes: Any) -> bytes:
        """Send a request through the proxy, with changed settings; return the response, the body reversed."""
        proxy = structs.replace(self.settings, **changes)

        async def exchange() -> bytes:
            connection = await dial(Endpoint(host, 443), self.tls, reply_bytes_max=1 << 20, proxy=proxy)
            response = await connection.request("POST", "/", body)
            connection.close()
            return response.body

        return self.run(self.box, exchange())


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Site:
    return Site(tmp_path, *getattr(request, "param", ("http", "basic")))


every_kind = pytest.mark.parametrize("site", ALL, indirect=True, ids="-".join)
every_kind_with_password = pytest.mark.parametrize("site", WITH_PASSWORD, indirect=True, ids="-".join)


def refusal(site: Site, **changes: Any) -> ProxyErrorKind:
    with pytest.raises(ProxyError) as caught:
        site.post(**changes)
    return caught.value.kind


@every_kind
def test_a_proxy_forwards_data_in_both_directions(site: Site) -> None:
    content = Random(3).randbytes(300_000)
    assert site.post(body=content) == content[::-1]
    assert site.post() == b"olleh"
    assert (site.behavior.requests, site.behavior.refused) in [(2, 0), (2, 2)], (
        "a proxy that challenges refuses first"
    )


@every_kind_with_password
@pytest.mark.parametrize("wrong", ["user", "password"])
def test_a_proxy_refuses_wrong_credentials_each_time(site: Site, wrong: str) -> None:
    for _ in range(2):
        assert refusal(site, **{wrong: "other"}) is ProxyErrorKind.REFUSED_AUTH
    assert site.behavior.requests == 0


@every_kind_with_password
def test_a_proxy_refuses_a_client_without_credentials(site: Site) -> None:
    assert refusal(site, user="", password="") is ProxyErrorKind.REFUSED_AUTH
    assert site.behavior.requests == 0


@pytest.mark.parametrize("site", [("http", "ntlm"), ("http", "negotiate")], indirect=True, ids="-".join)
def test_ntlm_and_negotiate_refuse_another_domain(site: Site) -> None:
    assert refusal(site, domain="other") is ProxyErrorKind.REFUSED_AUTH


def test_digest_accepts_a_client_that_first_tries_basic(tmp_path: Path) -> None:
    site = Site(tmp_path, "http", "digest")
    assert site.post(basic="first") == b"olleh"
    assert refusal(site, basic="first", password="other") is ProxyErrorKind.REFUSED_AUTH


@every_kind
def test_a_proxy_refuses_everyone_while_its_fault_lasts(site: Site) -> None:
    site.behavior.refuses = True
    with pytest.raises(ProxyError):
        site.post()
    site.behavior.refuses = False
    assert site.post() == b"olleh"


@every_kind
def test_a_proxy_reports_an_unreachable_target(site: Site) -> None:
    assert refusal(site, host="nowhere") is ProxyErrorKind.REFUSED


@every_kind
def test_a_half_open_proxy_does_not_answer(site: Site) -> None:
    site.behavior.half_open = True
    assert refusal(site) is ProxyErrorKind.TIMEOUT


def test_a_proxy_ends_idle_tunnels_only(site: Site) -> None:
    site.behavior.idle_s_max = 60

    async def talk() -> list[float]:
        connection = await dial(Endpoint("far", 443), site.tls, reply_bytes_max=999, proxy=site.settings)
        for _ in range(5):
            await asyncio.sleep(50)
            await connection.request("POST", "/", b"still here")
        since = site.loop.time()
        await connection.lost
        with pytest.raises(HttpError):
            await connection.request("POST", "/", b"too late")
        return [since, site.loop.time()]

    since, lost = site.run(site.box, talk())
    assert 59 < lost - since < 62


def test_a_slow_proxy_delays_both_directions(site: Site) -> None:
    before = site.loop.time()
    site.post()
    undelayed_s = site.loop.time() - before
    site.behavior.delay_s = 2.0
    site.post()
    assert site.loop.time() - before - undelayed_s > undelayed_s + 3 * 2.0


@pytest.mark.parametrize(
    ("site", "first_bytes", "answer"),
    [
        (("http", "basic"), b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 405"),
        (("http", "basic"), b"CONNECT far:443 HTTP/1.1\r\n\r\n", b"HTTP/1.1 407"),
        (("http", "basic"), b"x" * 20_000, b""),
        (("socks5", "password"), b"\x04\x01", b""),
        (("socks5", "password"), b"\x05\x01\x00", b"\x05\xff"),
        (("socks5", "password"), b"\x05\x01\x02\x01\x07rap-box\x0cclinic-proxy\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", b"\x05\x02\x01\x00\x05\x07"),  # noqa: E501
    ],
    indirect=["site"],
)  # fmt: skip
def test_a_proxy_refuses_invalid_requests(site: Site, first_bytes: bytes, answer: bytes) -> None:
    async def send() -> Recorder:
        recorder = Recorder()
        transport, _ = await site.loop.create_connection(lambda: recorder, "proxy", site.settings.port)
        assert isinstance(transport, asyncio.Transport)
        transport.write(first_bytes)
        await asyncio.sleep(5)
        return recorder

    recorder = site.run(site.box, send())
    assert bytes(recorder.received).startswith(answer)
    assert bool(recorder.received) == bool(answer)
    assert recorder.lost
