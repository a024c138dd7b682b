"""A box with a TUN device and an instrument, and the data center's end of a tunnel, in the network of a test.

The calling thread is in the network of the box, which has the data center's listener too.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from subprocess import DEVNULL, Popen, run

from agents.box.tunnel.openvpn import OpenVpnTunnel
from agents.box.tunnel.tunnel import Credentials, SessionKey
from datacenter.tunnel.keys import TunnelKeys, make_keys, make_tls_crypt
from datacenter.tunnel.listener import TunnelListener
from datacenter.tunnel.server import TunnelServer
from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.kernel.sessions import Sessions
from netfw.policy.policy import Service
from netfw.policy.policyfile import load_policy
from netfw.ruleset.sessions import Session
from settings.types import Endpoint, Proxy, ProxyKind
from tests.support.eventually import poll_until
from tests.support.namespaces import Namespace, namespace, own_network
from tests.support.paths import FIXTURES
from tests.support.wire.grants import ENDPOINT

DEVICE = "tun-rap"
STAFF = IPv4Interface("10.99.0.2/29")
INSTRUMENT = IPv4Address("10.77.1.5")
DESKTOP = 5900
OTHER = 5901
"""Another TCP port on which the instrument listens."""
SESSION = "S-0001"
PATH_SECONDS = 3600
UNPRIVILEGED = ("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--")
"""Command that starts a program without capabilities, even as root."""


@dataclass(frozen=True)
class BoxNetwork:
    """The network of the instrument, and the paths of sessions through the box's firewall."""

    instrument: Namespace
    sessions: Sessions

    def open_path(self) -> None:
        """Open the path from the data center's end of the tunnel to the desktop of the instrument."""
        self.sessions.open(PATH, PATH_SECONDS)


PATH = Session(STAFF.ip, 1, INSTRUMENT, Service("tcp", DESKTOP))


@contextmanager
def box_network() -> Iterator[BoxNetwork]:
    """Move the calling thread into the network of a box whose firewall is in force, until the context ends."""
    with ExitStack() as stack:
        stack.enter_context(own_network())
        instrument = stack.enter_context(namespace())
        commands = (
            "link set lo up",
            f"link add enp1s0 type veth peer name wan netns {instrument.path}",
            f"link add enp3s0 type veth peer name eth1 netns {instrument.path}",
            f"link add enp2s0 type veth peer name eth0 netns {instrument.path}",
            "addr add 10.77.1.1/24 dev enp2s0",
            "link set enp2s0 up",
            f"tuntap add dev {DEVICE} mode tun user root",
            f"addr add 10.99.0.1/29 dev {DEVICE}",
            f"link set {DEVICE} up",
        )
        run(("ip", "-batch", "-"), input="\n".join(commands), text=True, check=True)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        instrument.ip(
            f"addr add {INSTRUMENT}/24 dev eth0", "link set eth0 up", "route add default via 10.77.1.1"
        )
        nft = stack.enter_context(closing(Nft()))
        policy = load_policy(FIXTURES / "policies" / "clinic.toml")
        Firewall(nft).apply(policy)
        yield BoxNetwork(instrument, Sessions(nft, policy))


@contextmanager
def running_proxy(kind: ProxyKind, folder: Path) -> Iterator[Proxy]:
    """Run a real proxy on the loopback interface: squid for HTTP, dante for SOCKS5."""
    port = {"http": 3128, "socks5": 1080}[kind]
    configuration = folder / f"{kind}.conf"
    configuration.write_text((SQUID if kind == "http" else DANTE).format(port=port, folder=folder))
    command = ("squid", "-N", "-f") if kind == "http" else ("danted", "-f")
    process = Popen((*command, str(configuration)), stdout=DEVNULL, stderr=DEVNULL)
    try:
        poll_until(lambda: answers(port))
        yield Proxy(kind, "127.0.0.1", port)
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    """Return whether something accepts connections to a port of the loopback interface."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def device_packets() -> int:
    """Count the packets that the TUN device of the box has received and sent."""
    listing = run(("cat", "/proc/thread-self/net/dev"), capture_output=True, text=True, check=True).stdout
    fields = next(line for line in listing.splitlines() if DEVICE in line).split(":")[1].split()
    return int(fields[1]) + int(fields[9])


SQUID = """\
http_port 127.0.0.1:{port}
visible_hostname proxy
pid_filename none
cache_log {folder}/cache.log
access_log none
coredump_dir {folder}
cache deny all
shutdown_lifetime 0 seconds
http_access allow all
"""
DANTE = """\
logoutput: {folder}/dante.log
internal: 127.0.0.1 port = {port}
external: 127.0.0.1
socksmethod: none
clientmethod: none
user.privileged: root
user.unprivileged: nobody
client pass {{ from: 0/0 to: 0/0 }}
socks pass {{ from: 0/0 to: 0/0 protocol: tcp }}
"""


@dataclass
class TunnelEnds:
    """Both ends of a tunnel, which is not open at first."""

    keys: TunnelKeys
    key: SessionKey
    server: TunnelServer
    listener: TunnelListener
    tunnel: OpenVpnTunnel
    endpoint: Endpoint

    @property
    def credentials(self) -> Credentials:
        """The credentials that the data center issues to the box."""
        keys = self.keys
        return Credentials(SESSION, keys.client_certificate, keys.server_authority, keys.client_tls_crypt)

    async def open(self) -> None:
        """Open the tunnel."""
        await self.tunnel.open(self.endpoint, self.credentials, self.key)
        await self.server.opened()


@asynccontextmanager
async def tunnel_ends(folder: Path, proxy: Proxy | None = None) -> AsyncIterator[TunnelEnds]:
    """Start the data center's end, and yield both ends; the box's end can then be opened."""
    loop = asyncio.get_running_loop()
    key = SessionKey()
    until = datetime.now(UTC) + timedelta(hours=1)
    keys = make_keys(SESSION, ENDPOINT, key.public_key, until, await make_tls_crypt(SESSION))
    server, listener = TunnelServer(keys, STAFF, INSTRUMENT, DESKTOP, folder), TunnelListener()
    tunnel = OpenVpnTunnel(DEVICE, folder, proxy, prefix=UNPRIVILEGED)
    accepting = await loop.create_server(listener.accept, "127.0.0.1", 0)
    try:
        await server.start()
        listener.expect(keys.wrapped_key, server.accept)
        port = accepting.sockets[0].getsockname()[1]
        yield TunnelEnds(keys, key, server, listener, tunnel, Endpoint("127.0.0.1", port))
    finally:
        accepting.close()
        await tunnel.close()
        await server.stop()
