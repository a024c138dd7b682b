"""Remote sessions with real programs in network namespaces: box program, OpenVPN, nftables, TigerVNC and proxies.

    data center ──uplink── box ──port 1── instrument

The data center's desk runs in a thread of this process, in its own namespace. A person at the instrument uses the
page on the box's socket.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from datacenter.desktop.receiver import DesktopReceiver
from datacenter.desktop.recording import RecordingWriter
from datacenter.sessions.session import DeskSession
from datacenter.sessions.surroundings import TunnelCredentials
from datacenter.tunnel.endpoint import OpenVpnEndpoint
from datacenter.tunnel.listener import TunnelListener
from settings.types import ProxyKind
from tests.support.agents.sessions.center import WANTED, SessionCenter, serving
from tests.support.agents.sessions.tunnels import DANTE, SQUID
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.desktop.vnc_server import VncServer, vnc_server
from tests.support.eventually import WAIT_SECONDS_MAX, poll_until
from tests.support.namespaces import Namespace, NamespaceThread, cable, namespace
from tests.support.wire.grants import BOX, DATACENTER
from wire.desktop.connection import TcpChannel
from wire.session.grant import Offer
from wire.session.table import SessionState

T = TypeVar("T")
CENTER, BOX_UPLINK, INSTRUMENT = "203.0.113.5", "203.0.113.10", "10.77.1.5"
INGEST_PORT, TUNNEL_PORT, DESKTOP_PORT = 443, 1194, 5900
PROXY_PORTS: Final[dict[ProxyKind, int]] = {"http": 3128, "socks5": 1080}
DEVICE: Final = "rap-tun0"
SIZE: Final = (320, 200)
BOARD = """\
name = "lab"
uplink = "uplink0"
[instrument_ports]
1 = "port1"
"""
POLICY = """\
board = "board.toml"
[[authorized]]
role = "{role}"
addresses = ["203.0.113.5"]
protocol = "tcp"
ports = [{ports}]
[[port]]
number = 1
addresses = ["10.77.1.1/24"]
services = ["tcp/443"]
desktop = ["tcp/5900"]
[tunnel]
interface = "rap-tun0"
staff = ["10.99.0.2/32"]
address = "10.99.0.1"
"""
CONFIG = """\
board = "board.toml"
[identity]
certificate = "{certificate}"
key = "{key}"
vendor_authority = "{vendor}"
datacenter_authority = "{public}"
[datacenter]
host = "localhost"
address = "203.0.113.5"
[[port]]
number = 1
listen = "10.77.1.1"
[[port.instrument]]
serial = "CHEM-1"
model = "chemistry-analyzer"
address = "10.77.1.5"
[spool]
directory = "spool"
[sending]
heartbeat_s = {heartbeat_s}
[firewall]
policy = "firewall.toml"
retry_s = 0.2
[sessions]
endpoint = "203.0.113.5:1194"
keys = "offers.pem"
key = "session.key"
ways = ["code"]
page = "run/page.sock"
"""
PROXY = '[proxy]\nkind = "{kind}"\nhost = "203.0.113.5"\nport = {port}\n'
COUNTERS = """\
table inet lab {{
    counter tunnel_up {{ }}
    counter tunnel_down {{ }}
    counter all_up {{ }}
    counter all_down {{ }}
    chain up {{
        type filter hook input priority 0
        iifname "wan" counter name all_up
        tcp dport {listener} counter name tunnel_up
    }}
    chain down {{
        type filter hook output priority 0
        oifname "wan" counter name all_down
        tcp sport {listener} counter name tunnel_down
    }}
}}
"""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("10.77.1.1")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(WAIT_SECONDS_MAX)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Person:
    """The person at the instrument, who uses the page as a browser without scripts does."""

    page: Path

    def get(self, target: str = "/") -> str:
        """Open a page."""
        return self._request("GET", target)

    def enter_code(self, session: bytes, code: str) -> None:
        """Enter the code on the page of an offer."""
        self.code_form(session, code)()

    def post(self, target: str, body: str, port: int = 1) -> int:
        """Send a form as any program at this instrument port can; return the status of the response."""
        return self._exchange("POST", target, body, port)[0]

    def end(self, session: bytes) -> None:
        """Press the button that ends a session."""
        self.end_form(session)()

    def code_form(self, session: bytes, code: str) -> Callable[[], object]:
        """Fill in the form of an offer; return the function that sends it."""
        return self._form(session, "code", f"/offer/{session.hex()}", f"code={code}")

    def end_form(self, session: bytes) -> Callable[[], object]:
        """Open the page with the button that ends a session; return the function that presses it."""
        return self._form(session, "end", "/", "")

    def _form(self, session: bytes, action: str, page: str, fields: str) -> Callable[[], object]:
        target = f"/session/{session.hex()}/{action}"
        form = self.get(page).split(f'action="{target}"', 1)[1]
        token = re.search(r'name="?token"? value="?([0-9a-f]+)', form)
        assert token is not None, form
        return lambda: self._request("POST", target, f"token={token[1]}&{fields}")

    def _request(self, method: str, target: str, body: str = "") -> str:
        status, text = self._exchange(method, target, body, 1)
        assert status in (200, 303), (status, text)
        return text

    def _exchange(self, method: str, target: str, body: str, port: int) -> tuple[int, str]:
        connection = _UnixConnection(self.page)
        try:
            connection.request(method, target, body or None, {"x-rap-port": str(port)})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


class KeptEndpoint(OpenVpnEndpoint):
    """The data center's end of a tunnel, which keeps the credentials that it has issued."""

    issued: TunnelCredentials

    async def start(self, session_key: bytes, until: datetime) -> TunnelCredentials:
        self.issued = await super().start(session_key, until)
        return self.issued


@dataclass
class Desktop:
    """The instrument's desktop as the data center receives it."""

    receiver: DesktopReceiver
    channel: TcpChannel
    ended: Future[None]


@dataclass
class SessionLab:
    """The namespaces and running programs of a lab for sessions."""

    folder: Path
    box: Namespace
    center_network: Namespace
    instrument: Namespace
    thread: NamespaceThread
    center: SessionCenter
    listener: TunnelListener
    vnc: VncServer
    person: Person
    program: subprocess.Popen[bytes]
    endpoints: list[KeptEndpoint] = field(default_factory=list)

    def request(self, **changes: Any) -> DeskSession:
        """Request a session for the staff; return when the box shows it."""
        session = self.thread.call(self.center.desk.request(WANTED._replace(**changes)))
        self.reached(session, SessionState.OFFERED)
        return session

    def reached(self, session: DeskSession, state: SessionState) -> None:
        """Wait until a session has reached a state at the data center."""
        poll_until(lambda: session.state is state)

    def connect(self, session: DeskSession) -> Desktop:
        """Connect to the desktop; return when its first picture has arrived."""
        desktop = self.begin(session)
        self.wait_for_picture(desktop)
        return desktop

    def begin(self, session: DeskSession) -> Desktop:
        """Connect to the desktop."""
        return self.thread.call(_connected(session))

    def wait_for_picture(self, desktop: Desktop) -> None:
        """Wait until the first picture has arrived."""
        poll_until(lambda: desktop.receiver.updates > 0 or desktop.ended.done())
        assert not desktop.ended.done(), desktop.ended.exception()

    def counters(self) -> dict[str, tuple[int, int]]:
        """Count packets and bytes at the data center, by the names in COUNTERS."""
        listing = self.center_network.command("nft", "-j", "list", "counters", capture_output=True).stdout
        counters = [item["counter"] for item in json.loads(listing)["nftables"] if "counter" in item]
        return {counter["name"]: (counter["packets"], counter["bytes"]) for counter in counters}

    def device_packets(self) -> int:
        """Count the packets that the box's TUN device has received and sent."""

        def read() -> int:
            listing = Path("/proc/thread-self/net/dev").read_text()
            fields = next(line for line in listing.splitlines() if DEVICE in line).split(":")[1].split()
            return int(fields[1]) + int(fields[9])

        return self.box.run(read)

    def openvpn_of_box(self) -> int:
        """Return the process id of the box's OpenVPN."""
        for path in Path(f"/proc/{self.program.pid}/task/{self.program.pid}").glob("children"):
            for child in path.read_text().split():
                if Path(f"/proc/{child}/comm").read_text().strip() == "openvpn":
                    return int(child)
        raise AssertionError("the box has no OpenVPN")


async def _connected(session: DeskSession) -> Desktop:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = _Stream(reader)
    await session.connect(protocol)
    assert protocol.transport is not None
    channel = TcpChannel(reader, asyncio.StreamWriter(protocol.transport, protocol, reader, loop))
    receiver = DesktopReceiver(channel, RecordingWriter(io.BytesIO()))
    return Desktop(receiver, channel, asyncio.run_coroutine_threadsafe(_received(receiver), loop))


async def _received(receiver: DesktopReceiver) -> None:
    with suppress(EOFError, OSError):
        await receiver.run()


class _Stream(asyncio.StreamReaderProtocol):
    transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        super().connection_made(transport)


@contextmanager
def session_lab(
    folder: Path,
    pki: Hierarchy,
    kind: ProxyKind | None = None,
    *,
    heartbeat_s: float = 1.0,
    size: tuple[int, int] = SIZE,
    plug: Any = cable,
) -> Iterator[SessionLab]:
    """Start all programs; the box program serves its page on entry. `plug` connects the uplink, as `cable` does."""
    with ExitStack() as stack:
        box, center_network, instrument = (stack.enter_context(namespace()) for _ in range(3))
        plug(box, "uplink0", center_network, "wan")
        cable(box, "port1", instrument, "eth0")
        center_network.ip(f"addr add {CENTER}/24 dev wan")
        box.ip(
            f"addr add {BOX_UPLINK}/24 dev uplink0",
            "addr add 10.77.1.1/24 dev port1",
            f"tuntap add dev {DEVICE} mode tun user root",
            f"addr add 10.99.0.1/29 dev {DEVICE}",
            f"link set {DEVICE} addrgenmode none up",
        )
        instrument.ip(f"addr add {INSTRUMENT}/24 dev eth0", "route add default via 10.77.1.1")
        center_network.command("nft", "-f", "-", input=COUNTERS.format(listener=TUNNEL_PORT))
        vnc = stack.enter_context(
            vnc_server(
                folder,
                *("-rfbport", str(DESKTOP_PORT)),
                size=size,
                prefix=instrument.wrap(),
                host=INSTRUMENT,
            )
        )
        if kind is not None:
            stack.enter_context(_proxy(kind, folder, center_network))
        thread = NamespaceThread(center_network)
        stack.callback(thread.stop)
        listener, endpoints = TunnelListener(), list[KeptEndpoint]()
        # socket paths have at most 107 bytes
        tunnels = Path(stack.enter_context(TemporaryDirectory(prefix="tunnels-")))

        def make_endpoint(offer: Offer, key: ec.EllipticCurvePrivateKey) -> KeptEndpoint:
            endpoints.append(
                KeptEndpoint(
                    offer.id,
                    key,
                    IPv4Interface("10.99.0.2/29"),
                    IPv4Address("10.99.0.1"),
                    offer.tcp_port,
                    listener,
                    tunnels,
                )
            )
            return endpoints[-1]

        center = stack.enter_context(_center(thread, folder, pki, make_endpoint, listener))
        program = stack.enter_context(_box_program(folder, pki, box, kind, heartbeat_s))
        person = Person(folder / "run" / "page.sock")
        poll_until(lambda: _is_served(person, program))
        yield SessionLab(
            folder, box, center_network, instrument, thread, center, listener, vnc, person, program, endpoints
        )


def _is_served(person: Person, program: subprocess.Popen[bytes]) -> bool:
    assert program.poll() is None, "the box program has ended"
    try:
        person.get()
    except (OSError, AssertionError):
        return False
    return True


@contextmanager
def _center(
    thread: NamespaceThread, folder: Path, pki: Hierarchy, make_endpoint: Any, listener: TunnelListener
) -> Iterator[SessionCenter]:
    ready: Future[SessionCenter] = Future()
    stop = asyncio.Event()

    async def serve() -> None:
        center = SessionCenter(folder, make_endpoint, folder / "spool" / "sessions.audit")
        server = await asyncio.get_running_loop().create_server(listener.accept, CENTER, TUNNEL_PORT)
        # on all addresses, because proxies connect to the name in its certificate, localhost
        async with serving(center, pki, "0.0.0.0", INGEST_PORT):
            ready.set_result(center)
            await stop.wait()
        server.close()

    running = thread.start(serve())
    try:
        yield ready.result(WAIT_SECONDS_MAX)
    finally:
        thread.loop.call_soon_threadsafe(stop.set)
        running.result(WAIT_SECONDS_MAX)


@contextmanager
def _box_program(
    folder: Path, pki: Hierarchy, box: Namespace, kind: ProxyKind | None, heartbeat_s: float
) -> Iterator[subprocess.Popen[bytes]]:
    (folder / "run").mkdir()
    (folder / "board.toml").write_text(BOARD)
    role, ports = (
        ("datacenter", f"{INGEST_PORT}, {TUNNEL_PORT}") if kind is None else ("proxy", PROXY_PORTS[kind])
    )
    (folder / "firewall.toml").write_text(POLICY.format(role=role, ports=ports))
    config = CONFIG.format(
        certificate=pki.box.certificate,
        key=pki.box.key,
        vendor=pki.box_server.authorities,
        public=pki.box.authorities,
        heartbeat_s=heartbeat_s,
    )
    if kind is not None:
        config += PROXY.format(kind=kind, port=PROXY_PORTS[kind])
    (folder / "box.toml").write_text(config)
    (folder / "offers.pem").write_bytes(
        DATACENTER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (folder / "session.key").write_bytes(BOX.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    command = box.wrap(sys.executable, "-m", "rap", "box", "run", "--config", str(folder / "box.toml"))
    with (folder / "box.log").open("wb") as log:
        program = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield program
    finally:
        program.send_signal(signal.SIGTERM)
        program.wait()


@contextmanager
def _proxy(kind: ProxyKind, folder: Path, network: Namespace) -> Iterator[None]:
    """Run a real proxy at the data center's address: squid for HTTP, dante for SOCKS5."""
    text = (SQUID if kind == "http" else DANTE).format(port=PROXY_PORTS[kind], folder=folder)
    configuration = folder / f"{kind}.conf"
    configuration.write_text(text.replace("127.0.0.1", CENTER))
    command = ("squid", "-N", "-f") if kind == "http" else ("danted", "-f")
    process = subprocess.Popen(
        network.wrap(*command, str(configuration)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        with network.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            return client.connect_ex((CENTER, PROXY_PORTS[kind])) == 0

    try:
        poll_until(answers)
        yield
    finally:
        process.terminate()
        process.wait()
