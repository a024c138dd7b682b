"""The local page on its UNIX socket in real time, served from a thread, with httpd in front of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from ipaddress import IPv4Interface
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from agents.box.page.certificate import FILE
from agents.box.page.server import serve_page
from agents.box.sessions.security_keys import SecurityKeys
from agents.box.tunnel.tunnel import Credentials, SessionKey
from datacenter.sessions.surroundings import TunnelCredentials
from datacenter.tunnel.keys import issue_certificate
from settings.types import Endpoint
from sim.tunnel.path import EmulPath
from tests.support.agents.page_client import OTHER_PORT, page_of
from tests.support.agents.sessions.box import PORT, SessionBox
from tests.support.eventually import WAIT_SECONDS_MAX, eventually
from tests.support.httpd import configure, running
from tests.support.wire.grants import ISSUED, OFFER
from wire.http.connection import Request, Response
from wire.session.grant import Offer, PresenceWay
from wire.session.table import SessionState

T = TypeVar("T")
NAME = "rap.example"
"""The name of the page in browsers."""
ADDRESSES = {PORT: IPv4Interface("127.0.0.1/32"), OTHER_PORT: IPv4Interface("127.0.0.3/32")}
"""Addresses of the box by port. A client must use the same address, because the subnet contains no other."""


class InstantTunnel:
    """A tunnel that opens immediately, and carries no packets."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def prepare(self, endpoint: Endpoint) -> None:
        pass

    async def open(self, endpoint: Endpoint, credentials: Credentials, key: SessionKey) -> None:
        pass

    async def close(self) -> None:
        if not self.ended.done():
            self.ended.set_result("closed")


class InstantNetwork:
    """The network that `SessionBox` needs, in real time."""

    def __init__(self) -> None:
        self.path, self.clock_error_s = EmulPath(), 0.0
        self.tunnels: list[InstantTunnel] = []

    def box_wall_ns(self) -> int:
        return int((ISSUED + asyncio.get_running_loop().time() + self.clock_error_s) * 1e9)

    def make_tunnel(self) -> InstantTunnel:
        self.tunnels.append(InstantTunnel())
        return self.tunnels[-1]

    def make_endpoint(self, offer: Offer, key: EllipticCurvePrivateKey) -> Any:
        async def start(session_key: bytes, until: datetime) -> TunnelCredentials:
            public = load_der_public_key(session_key)
            assert isinstance(public, EllipticCurvePublicKey)
            usage, own = ExtendedKeyUsageOID.CLIENT_AUTH, key.public_key()
            certificate = issue_certificate(offer.id.hex(), public, "authority", key, until, usage)
            return TunnelCredentials(
                certificate, issue_certificate("authority", own, "authority", key, until, None), ""
            )

        return SimpleNamespace(start=start)


class ServedPage:
    """The box behind the page. Its methods may be called from the test's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, box: SessionBox) -> None:
        self._loop, self.box = loop, box
        self.page = page_of(box, SecurityKeys(NAME, {}))
        self.http_ports: dict[int, int] = {}
        self.httpd, self.configuration = 0, Path()
        """The process id of httpd, and its configuration."""
        self.certificate = Path()
        """The path of the certificate that the box publishes for httpd."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the box's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_SECONDS_MAX)

    async def handle(self, request: Request) -> Response:
        """Answer a request with the current page."""
        return await self.page.handle(request)

    def enrol(self, keys: dict[str, bytes]) -> None:
        """Start the page with these security keys in its configuration."""
        self.page = page_of(self.box, SecurityKeys(NAME, keys))

    def offer(self, id: bytes = OFFER.id, **changes: object) -> str:
        """Let the data center offer a session; return the code that staff see."""

        async def offer() -> str:
            return await self.box.offer(replace(self.box.next_offer(), id=id, **changes))  # type: ignore[arg-type]

        return self.run(offer())

    def reach(self, state: SessionState) -> None:
        """Wait until the last session has a state; for OPEN, deliver the certificate from the data center first."""

        async def reach() -> None:
            session = self.box.session
            if state is SessionState.OPEN:
                await eventually(lambda: session.state is SessionState.AUTHORIZED)
                await self.box.sessions.receive(await self.box.certificate())
            await eventually(lambda: session.state is state)

        self.run(reach())

    def end_all(self) -> None:
        """End all sessions."""
        self.run(self.box.sessions.end_all())

    def address(self, port: int = PORT) -> str:
        """Return the address of the page of an instrument port."""
        return f"https://{ADDRESSES[port].ip}:{self.http_ports[port]}"


@contextmanager
def serving_box(path: Path, *ways: PresenceWay) -> Iterator[ServedPage]:
    """Serve the page of a box at `path` until the end of the block."""
    ready = threading.Event()
    started: list[tuple[ServedPage, Callable[[], object]]] = []

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        box = SessionBox(InstantNetwork(), ways or (PresenceWay.CODE,))  # type: ignore[arg-type]
        served = ServedPage(loop, box)
        async with serve_page(path, served.handle, lambda: 0.0):
            path.chmod(0o666)  # noqa: ASYNC240 - on the box, its folder has the group of httpd
            started.append((served, lambda: loop.call_soon_threadsafe(stop.set)))
            ready.set()
            await stop.wait()
        await box.sessions.end_all()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(WAIT_SECONDS_MAX)
    try:
        yield started[0][0]
    finally:
        started[0][1]()
        thread.join()


@contextmanager
def served_page(folder: Path, pki: Path, *ways: PresenceWay) -> Iterator[ServedPage]:
    """Serve the page of a box through httpd, whose files are in the empty folder `folder`."""
    with TemporaryDirectory(prefix="rap-page-") as name:  # a folder that httpd's user can enter
        Path(name).chmod(0o755)
        socket = Path(name) / "socket"
        with serving_box(socket, *ways) as served:
            conf, served.http_ports = configure(folder, pki, ADDRESSES, socket, NAME)
            served.configuration, served.certificate = conf, socket.with_name(FILE)
            with running(conf, (str(ADDRESSES[PORT].ip), served.http_ports[PORT])) as served.httpd:
                yield served
