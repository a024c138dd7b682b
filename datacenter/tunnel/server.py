"""The OpenVPN server of one session, in a separate network namespace.

The namespace has only the TUN device and the loopback interface. Its firewall permits connections to one TCP port of
one instrument, and none in the opposite direction. The data center connects to the instrument by a socket in this
namespace (`TunnelServer.connect`), so that a faulty program cannot reach another instrument, another session, or the
data center.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Final

from datacenter.tunnel.keys import TunnelKeys
from datacenter.tunnel.namespace import socket_of
from wire.openvpn import management
from wire.openvpn.management import ClientLost, ClientRequest, Event, Failed, Hold, State
from wire.openvpn.options import COMMON, PING_LOST_SECONDS, PING_SECONDS, inline
from wire.openvpn.program import OpenVpn, OpenVpnError

START_SECONDS_MAX: Final = 30.0
CONNECT_SECONDS: Final = (*(0.02,) * 20, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Intervals between attempts to connect. Earlier attempts continue, because responses over a slow link are late."""
CONNECT_ONCE_SECONDS: Final = (15.0,)
"""A single attempt, for a service that must not see unused connections; TCP retransmits its SYN."""
PROBE_SECONDS_MAX: Final = 1.0
"""The firewall rejects a connection immediately; without the firewall, the attempt takes longer than this."""
_LOOPBACK: Final = "127.0.0.1"
_PORT: Final = 1194
_DEVICE: Final = "tun0"
_OPTIONS: Final = f"""\
mode server
tls-server
proto tcp4-server
local {_LOOPBACK}
port {_PORT}
dev {_DEVICE}
topology subnet
max-clients 1
dh none
ping {PING_SECONDS}
ping-restart {PING_LOST_SECONDS}
push "ping {PING_SECONDS}"
push "ping-restart {PING_LOST_SECONDS}"
remote-cert-tls client
management-client-auth
auth-user-pass-optional
"""
PROGRAMS: Final = ("unshare", "ip", "nft", "openvpn")
"""The programs that a server needs."""
_IN_NAMESPACE: Final = 'ip link set lo up && nft "$0" && exec "$@"'


class TunnelServer:
    """The OpenVPN server of a session that may reach one TCP port of one instrument.

    `staff` is the source address of its connections, with its network. The firewall of the box permits only this
    address.
    """

    def __init__(
        self,
        keys: TunnelKeys,
        staff: IPv4Interface,
        instrument: IPv4Address,
        port: int,
        folder: Path,
        connect_s: Sequence[float] = CONNECT_SECONDS,
    ) -> None:
        """`connect_s` are the intervals between attempts to connect, in s."""
        self._connect_s = connect_s
        self._keys, self._staff, self._instrument, self._port = keys, staff, instrument, port
        self._program = OpenVpn(self._handle, folder)
        loop = asyncio.get_running_loop()
        self._listens: asyncio.Future[None] = loop.create_future()
        self._up: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        """Set with the reason when the tunnel or the server has ended."""

    @property
    def pid(self) -> int:
        """The process ID of OpenVPN."""
        return self._program.pid

    async def start(self) -> None:
        """Start the server; it accepts the box's connection on return. Raises: OpenVpnError."""
        rules = _rules(self._instrument, self._port)
        await self._program.start(
            self._options(), ("unshare", "--net", "--", "sh", "-c", _IN_NAMESPACE, rules)
        )
        self._program.ended.add_done_callback(lambda _: self._end("OpenVPN has ended"))
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                await self._listens
        except TimeoutError:
            await self.stop()
            raise OpenVpnError(f"OpenVPN did not start: {' / '.join(self._program.log[-3:])}") from None

    async def is_fenced(self) -> bool:
        """Return whether the firewall rejects connections to another port and to another address."""
        neighbour = next(host for host in self._staff.network.hosts() if host != self._staff.ip)
        others = ((self._instrument, self._port ^ 1), (neighbour, self._port))
        tried = [(host, port) for host, port in others if (host, port) != (self._instrument, self._port)]
        return all([await self._is_refused(str(host), port) for host, port in tried])

    async def _is_refused(self, host: str, port: int) -> bool:
        """Return whether the firewall of the namespace rejects a connection."""
        try:
            async with asyncio.timeout(PROBE_SECONDS_MAX):
                await self._connect(asyncio.Protocol(), host, port)
        except OSError as error:
            return error.errno == errno.EHOSTUNREACH
        return False

    async def accept(self, protocol: asyncio.Protocol) -> None:
        """Connect `protocol` to the server, as the box's connection. Raises: OSError."""
        await self._connect(protocol, _LOOPBACK, _PORT)

    async def opened(self) -> None:
        """Wait until the tunnel passes packets. Raises: OpenVpnError if it cannot."""
        await self._up

    async def connect(self, protocol: asyncio.Protocol) -> None:
        """Connect `protocol` to the instrument, through the tunnel. Raises: OSError.

        The box forwards packets only from a moment after the tunnel is up at this end, and drops earlier ones. As TCP
        would retransmit a dropped SYN only after a second, several attempts are made.
        """
        attempts: list[asyncio.Task[socket.socket]] = []
        loop = asyncio.get_running_loop()
        try:
            for seconds in self._connect_s:
                attempts.append(loop.create_task(self._reach(str(self._instrument), self._port)))
                await asyncio.wait(attempts, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                answered = next((attempt for attempt in attempts if attempt.done()), None)
                if answered is not None:
                    attempts.remove(answered)
                    await loop.create_connection(lambda: protocol, sock=answered.result())
                    return
            raise TimeoutError("the instrument does not answer")
        finally:
            for attempt in attempts:
                attempt.cancel()
            for late in await asyncio.gather(*attempts, return_exceptions=True):
                if isinstance(late, socket.socket):
                    late.close()

    async def stop(self) -> None:
        """End the tunnel. On return, no packets pass."""
        await self._program.stop()

    async def _connect(self, protocol: asyncio.Protocol, host: str, port: int) -> None:
        own = await self._reach(host, port)
        await asyncio.get_running_loop().create_connection(lambda: protocol, sock=own)

    async def _reach(self, host: str, port: int) -> socket.socket:
        """Return a socket of the namespace that is connected to `host`. Raises: OSError."""
        own = await socket_of(self.pid)
        try:
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(own, (host, port))
        except BaseException:
            own.close()
            raise
        return own

    def _options(self) -> str:
        keys, network = self._keys, self._staff.network
        addresses = list(network.hosts())
        return (
            COMMON
            + _OPTIONS
            + f"ifconfig {self._staff.ip} {network.netmask}\n"
            + f"ifconfig-pool {addresses[-2]} {addresses[-1]} {network.netmask}\n"
            + f"route {self._instrument} 255.255.255.255 {addresses[-1]}\n"
            + f"verify-x509-name {keys.session} name\n"
            + inline("ca", keys.client_authority)
            + inline("cert", keys.server_certificate)
            + inline("key", keys.server_key)
            + inline("tls-crypt-v2", keys.server_tls_crypt)
        )

    def _handle(self, event: Event) -> bytes:
        match event:
            case Hold():
                return management.release()
            case State("CONNECTED"):
                if not self._listens.done():
                    self._listens.set_result(None)
            case ClientRequest() if event.environment.get("common_name") == self._keys.session:
                if not self._up.done():
                    asyncio.get_running_loop().call_soon(self._opened)
                return management.permit(event, f"iroute {self._instrument}")
            case ClientRequest():
                return management.deny(event, "not the client of this session")
            case ClientLost():
                self._end("the box has closed the tunnel")
                self._program.disconnect()
            case Failed(text):
                self._end(text)
        return b""

    def _opened(self) -> None:
        if not self._up.done():
            self._up.set_result(None)

    def _end(self, reason: str) -> None:
        if self.ended.done():
            return
        self.ended.set_result(reason)
        failure = OpenVpnError(f"{reason}: {' / '.join(self._program.log[-3:])}")
        for waiting in (self._listens, self._up):
            if not waiting.done():
                waiting.set_exception(failure)
                waiting.exception()  # the exception may never be retrieved


def _rules(instrument: IPv4Address, port: int) -> str:
    """Return the commands of nft(8) for the firewall of the namespace."""
    outbound = f'oifname "{_DEVICE}" ip daddr {instrument} tcp dport {port}'
    inbound = f'iifname "{_DEVICE}" ip saddr {instrument} tcp sport {port} ct state established'
    chains = (("output", "lo", "oifname", outbound), ("input", "lo", "iifname", inbound))
    commands = ["add table inet fence"]
    for hook, loopback, direction, rule in chains:
        commands += [
            f"add chain inet fence {hook} {{ type filter hook {hook} priority 0; policy drop; }}",
            f'add rule inet fence {hook} {direction} "{loopback}" accept',
            f"add rule inet fence {hook} {rule} accept",
        ]
    commands.append("add rule inet fence output reject with icmpx admin-prohibited")
    commands.append("add chain inet fence forward { type filter hook forward priority 0; policy drop; }")
    return "; ".join(commands)
