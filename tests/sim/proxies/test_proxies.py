"""The simulated proxies, tested with the box's dialler and with raw requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from settings.types import Endpoint, Proxy
from sim.net.host import Network, SimHost
from sim.net.link import Link
from sim.net.loop import SimLoop
from sim.proxies.http_auth import AcceptAllVerifier, BasicVerifier, DigestVerifier, SpnegoVerifier
from sim.proxies.http_connect import HttpConnectProxy
from sim.proxies.relay import Behavior
from sim.proxies.socks5 import Socks5Proxy
from sim.proxies.spnego import SpnegoScheme, write_passwords
from tests.support.sim.network import CLINIC, LAN, Recorder
from wire.dial.dialer import dial
from wire.dial.proxy import ProxyError, ProxyErrorKind
from wire.http.connection import HttpError, Request, Response, serve
from wire.pki.hierarchy import Authority, make_key
from wire.tls.context import client_context, server_context

PORTS = {"http": 3128, "socks5": 1080}
OPEN = {kind: Proxy(kind, "proxy", port) for kind, port in PORTS.items()}
WITH_PASSWORD = {kind: Proxy(kind, "proxy", port, "box", "secret") for kind, port in PORTS.items()}


class Site:
    """A box, a proxy host with proxies of both kinds, and a server behind it."""

    def __init__(
        self,
        folder: Path,
        credentials: tuple[str, str] | None,
        scheme: Callable[[tuple[str, str]], AcceptAllVerifier] = BasicVerifier,
    ) -> None:
        self.scheme = scheme
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
            def accept() -> HttpConnectProxy:
                auth = AcceptAllVerifier() if credentials is None else self.scheme(credentials)
                return HttpConnectProxy(self.behavior, auth)

            await self.loop.create_server(accept, "proxy", PORTS["http"])
            await self.loop.create_server(
                lambda: Socks5Proxy(self.behavior, credentials), "proxy", PORTS["socks5"]
            )

        self.run(
            self.far,
            serve(answer, "far", 443, tls=server_context(identity), body_bytes_max=1 << 20, now=lambda: 0.0),
        )
        self.run(self.proxy, listen())
        self.box.power_on()

    def run(self, host: SimHost, coro):
        incarnation = host.incarnation or host.power_on()
        return self.loop.run_until_complete(incarnation.run(self.loop, coro))

    def ask(self, proxy: Proxy, host: str = "far", body: bytes = b"hello") -> bytes:
        async def exchange() -> bytes:
            connection = await dial(Endpoint(host, 443), self.tls, reply_bytes_max=1 << 20, proxy=proxy)
            response = await connection.request("POST", "/", body)
            connection.close()
            return response.body

        return self.run(self.box, exchange())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield Site(tmp_path, ("box", "secret"))


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[Site]:
    yield Site(tmp_path, None)


@pytest.mark.parametrize("kind", PORTS)
def test_a_proxy_forwards_data_in_both_directions(site: Site, kind: str) -> None:
    content = Random(3).randbytes(300_000)
    assert site.ask(WITH_PASSWORD[kind], body=content) == content[::-1]
    assert site.behavior.requests == 1


@pytest.mark.parametrize("kind", PORTS)
def test_an_open_proxy_requires_no_password(open_site: Site, kind: str) -> None:
    assert open_site.ask(OPEN[kind]) == b"olleh"


@pytest.mark.parametrize("kind", PORTS)
@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_proxy_refuses_a_wrong_or_missing_password(site: Site, kind: str, password: str) -> None:
    proxy = Proxy(kind, "proxy", PORTS[kind], "box" if password else "", password)
    with pytest.raises(ProxyError) as caught:
        site.ask(proxy)
    assert caught.value.kind is ProxyErrorKind.REFUSED_AUTH
    assert site.behavior.refused == 1


@pytest.mark.parametrize("basic", ["first", "never"])
@pytest.mark.parametrize("wrong", ["", "user", "password"])
def test_digest_accepts_only_the_right_user_and_password(tmp_path: Path, wrong: str, basic: str) -> None:
    """The proxy closes the connection with each refusal."""
    site = Site(tmp_path, ("box", "secret"), DigestVerifier)
    given = {"user": "box", "password": "secret"} | ({wrong: "other"} if wrong else {})
    proxy = Proxy("http", "proxy", PORTS["http"], **given, basic=basic)  # type: ignore[arg-type]
    if not wrong:
        assert site.ask(proxy) == b"olleh"
        return
    with pytest.raises(ProxyError) as caught:
        site.ask(proxy)
    assert caught.value.kind is ProxyErrorKind.REFUSED_AUTH


@pytest.mark.parametrize("scheme", ["ntlm", "negotiate"])
@pytest.mark.parametrize("wrong", ["", "user", "password", "domain"])
def test_ntlm_and_negotiate_take_the_right_credentials_only(
    tmp_path: Path, scheme: SpnegoScheme, wrong: str
) -> None:
    passwords = tmp_path / "passwords"
    write_passwords(passwords, "CLINIC", "box", "secret")
    site = Site(tmp_path, ("box", "secret"), lambda _: SpnegoVerifier(scheme, passwords))
    given = {"user": "box", "password": "secret", "domain": "CLINIC"} | ({wrong: "other"} if wrong else {})
    proxy = Proxy("http", "proxy", PORTS["http"], **given, basic="never")  # type: ignore[arg-type]
    for _ in range(2):
        if not wrong:
            assert site.ask(proxy) == b"olleh"
            continue
        with pytest.raises(ProxyError) as caught:
            site.ask(proxy)
        assert caught.value.kind is ProxyErrorKind.REFUSED_AUTH


@pytest.mark.parametrize("kind", PORTS)
def test_a_proxy_refuses_everyone_while_its_fault_lasts(site: Site, kind: str) -> None:
    site.behavior.refuses = True
    with pytest.raises(ProxyError):
        site.ask(WITH_PASSWORD[kind])


@pytest.mark.parametrize("kind", PORTS)
def test_a_proxy_reports_an_unreachable_target(site: Site, kind: str) -> None:
    with pytest.raises(ProxyError) as caught:
        site.ask(WITH_PASSWORD[kind], host="nowhere")
    assert caught.value.kind is ProxyErrorKind.REFUSED


@pytest.mark.parametrize("kind", PORTS)
def test_a_half_open_proxy_does_not_answer(site: Site, kind: str) -> None:
    site.behavior.half_open = True
    with pytest.raises(ProxyError) as caught:
        site.ask(WITH_PASSWORD[kind])
    assert caught.value.kind is ProxyErrorKind.TIMEOUT


def test_a_proxy_ends_idle_tunnels_only(site: Site) -> None:
    site.behavior.idle_s_max = 60

    async def talk() -> list[float]:
        connection = await dial(
            Endpoint("far", 443), site.tls, reply_bytes_max=999, proxy=WITH_PASSWORD["http"]
        )
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
    site.ask(WITH_PASSWORD["http"])
    quick = site.loop.time() - before
    site.behavior.delay_s = 2.0
    site.ask(WITH_PASSWORD["http"])
    assert site.loop.time() - before - quick > quick + 3 * 2.0


@pytest.mark.parametrize(
    ("port", "said", "answered"),
    [
        (3128, b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 405"),
        (3128, b"CONNECT far:443 HTTP/1.1\r\n\r\n", b"HTTP/1.1 407"),
        (3128, b"x" * 20_000, b""),
        (1080, b"\x04\x01", b""),
        (1080, b"\x05\x01\x00", b"\x05\xff"),
        (1080, b"\x05\x01\x02\x01\x03box\x06secret\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", b"\x05\x02\x01\x00\x05\x07"),  # noqa: E501
    ],
)  # fmt: skip
def test_a_proxy_refuses_invalid_requests(site: Site, port: int, said: bytes, answered: bytes) -> None:
    async def say() -> Recorder:
        transport, recorder = await site.loop.create_connection(Recorder, "proxy", port)
        transport.write(said)
        await asyncio.sleep(5)
        return recorder

    recorder = site.run(site.box, say())
    assert bytes(recorder.received).startswith(answered)
    assert bool(recorder.received) == bool(answered)
    assert recorder.lost
