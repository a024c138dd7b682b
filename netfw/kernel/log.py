"""Reads the log of refused packets from the kernel: NFLOG (linux/netfilter/nfnetlink_log.h).

The ruleset's log rules pass the headers of a few refused packets per second and interface to an NFLOG group; the
counters count all packets. Only one program per network namespace can read a group. The kernel numbers its messages,
so that a gap between two numbers shows how many the reader has missed.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from fcntl import ioctl
from pathlib import Path
from struct import pack, unpack
from typing import Any, Final

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.kernel import netlink
from netfw.model.headers import Headers, headers
from netfw.ruleset.names import LOG_BYTES, LOG_GROUP, LOG_PREFIX

_PACKET, _CONFIG = 4 << 8, 4 << 8 | 1
_CFG_COMMAND, _CFG_MODE, _CFG_THRESHOLD, _CFG_FLAGS = 1, 2, 5, 6
_BIND, _COPY_PACKET, _NUMBERED = 1, 2, 1
_TIMESTAMP, _INTERFACE_IN, _INTERFACE_OUT, _PAYLOAD, _PREFIX, _NUMBER = 3, 4, 5, 9, 10, 12
_SIOCGIFNAME: Final = 0x8910
_READS_MAX: Final = 64
"""Datagrams read before control returns to the event loop."""
_READERS: Final = Path("/proc/thread-self/net/netfilter/nfnetlink_log")


@dataclass(frozen=True, slots=True)
class RefusedPacket:
    """A refused packet. `seconds` are since 1970; `interface_in` and `interface_out` are "" if there is none."""

    seconds: float
    cause: str
    interface_in: str
    interface_out: str
    headers: Headers | None
    """None if the bytes are not a valid packet."""
    copied: bytes
    """The packet's first bytes, starting at the IP header."""

    def __str__(self) -> str:
        """Format one line, in local time: `12:03:44 outside    enp1s0  tcp 203.0.113.9:4711 → 192.0.2.10:22 SYN`."""
        at = datetime.fromtimestamp(self.seconds).astimezone().strftime("%H:%M:%S")
        out = f"→{self.interface_out}" if self.interface_out else ""
        return f"{at} {self.cause:<10} {self.interface_in}{out}  {self.headers or self.copied.hex()}"

    def summary(self) -> dict[str, Any]:
        """Return the fields for JSON; the time is UTC (RFC 3339)."""
        at = datetime.fromtimestamp(self.seconds, UTC).isoformat(timespec="milliseconds")
        parsed = self.headers._asdict() if self.headers else {}
        interfaces = {"interface_in": self.interface_in, "interface_out": self.interface_out}
        return {"time": at, "cause": self.cause, **interfaces, **parsed, "copied": self.copied.hex()}


@dataclass(frozen=True, slots=True)
class Lost:
    """Logged packets that were lost before they could be read; detected when the next one arrives."""

    packets: int

    def __str__(self) -> str:
        return f"{self.packets} more packets were logged, but lost before they could be read"

    def summary(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


@dataclass(slots=True)
class FirewallLog:
    """Reads the firewall's log in the network namespace of its creation; calls `on_entry` with each entry."""

    on_entry: Callable[[RefusedPacket | Lost], None]
    netlink_socket: socket.socket = field(default_factory=netlink.netfilter_socket)
    _next: int = 0

    def start(self) -> None:
        """Start reading on the running event loop. Raises: FirewallError."""
        commands = (
            netlink.attribute(_CFG_COMMAND, bytes((_BIND,)))
            + netlink.attribute(_CFG_MODE, pack("!IBx", LOG_BYTES, _COPY_PACKET))
            + netlink.attribute(_CFG_THRESHOLD, pack("!I", 1))  # deliver each message at once
            + netlink.attribute(_CFG_FLAGS, pack("!H", _NUMBERED))
        )
        try:
            netlink.acknowledged(
                self.netlink_socket, netlink.request(_CONFIG, netlink.F_ACK, 0, commands, LOG_GROUP)
            )
        except OSError as error:
            self.netlink_socket.close()
            raise _explained(error) from error
        self.netlink_socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self.netlink_socket, self.read_waiting)

    def stop(self) -> None:
        """Stop reading, so that another program can read the group."""
        asyncio.get_running_loop().remove_reader(self.netlink_socket)
        self.netlink_socket.close()

    def read_waiting(self) -> None:
        """Read the messages that have arrived."""
        for message in self._messages():
            if message.kind == _PACKET:
                attributes = message.attributes()
                self._count(int.from_bytes(attributes.get(_NUMBER, b""), "big"))
                self.on_entry(self._refused(attributes))

    def _messages(self) -> Iterator[netlink.NetlinkMessage]:
        for _ in range(_READS_MAX):
            try:
                datagram = self.netlink_socket.recv(netlink.RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                # after an overrun (ENOBUFS), the next message's number shows how many were lost
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            yield from netlink.messages(datagram)

    def _count(self, number: int) -> None:
        if number != self._next:
            self.on_entry(Lost(number - self._next & 0xFFFFFFFF))
        self._next = number + 1 & 0xFFFFFFFF

    def _refused(self, attributes: dict[int, bytes]) -> RefusedPacket:
        prefix = attributes.get(_PREFIX, b"").rstrip(b"\0").decode(errors="replace").strip()
        copied = attributes.get(_PAYLOAD, b"")[:LOG_BYTES]
        return RefusedPacket(
            _seconds(attributes.get(_TIMESTAMP)),
            prefix.removeprefix(LOG_PREFIX).strip(),
            self._interface(attributes.get(_INTERFACE_IN)),
            self._interface(attributes.get(_INTERFACE_OUT)),
            headers(copied),
            copied,
        )

    def _interface(self, index: bytes | None) -> str:
        """Return the interface's name in the socket's network namespace, or #index if it does not exist any more."""
        if index is None:
            return ""
        (number,) = unpack("!I", index)
        try:
            ifreq = ioctl(self.netlink_socket, _SIOCGIFNAME, pack("16xi20x", number))
        except OSError:
            return f"#{number}"
        return ifreq[:16].rstrip(b"\0").decode(errors="replace")


def _seconds(timestamp: bytes | None) -> float:
    """Return the kernel's time stamp in seconds, or the current time: the box's own packets may have none."""
    if timestamp is None:
        return time.time()
    seconds, micro = unpack("!QQ", timestamp)
    return float(seconds + micro / 1e6)


def _explained(error: OSError) -> FirewallError:
    if error.errno == errno.EPERM and _is_read():
        problem = f"another program reads the firewall's log (NFLOG group {LOG_GROUP}); stop it first"
        return FirewallError(FirewallErrorKind.REFUSED, problem)
    if error.errno == errno.EPERM:
        return FirewallError(
            FirewallErrorKind.DENIED,
            "the kernel does not let this user read the firewall's log; run it as root",
        )
    return FirewallError(
        FirewallErrorKind.LACKING, f"the kernel has no NFLOG (module nfnetlink_log): {error.strerror}"
    )


def _is_read() -> bool:
    """Return whether a program reads the group; the first word of each line is a group's number."""
    try:
        return any(line.split()[0] == str(LOG_GROUP) for line in _READERS.read_text().splitlines())
    except OSError:
        return False
