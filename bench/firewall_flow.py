"""What one flow brings through the box, with the ruleset in force and with none in turn.

Staff, box and instrument are three network namespaces. A session is open, and a program of the one sends to a program
of the other as fast as it can:

    datagrams    a few bytes each. The sender has a processor of its own, as a machine of its own would. The box's
                 work, which the kernel would do in the sender's time, is steered to another one (receive packet
                 steering, Documentation/networking/scaling.rst). Counted is what the receiving program reads.
    connection   bytes by TCP, wherever the kernel has the work done

`bench.firewall_forward` shows them.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Final, NamedTuple

from bench.firewall_range import crowded
from bench.firewall_session import POLICY as ONE_PORT
from bench.firewall_session import SESSION as DESKTOP_SESSION
from bench.firewall_session import conversation, socket_in, three_namespaces
from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.kernel.sessions import Session, Sessions
from netfw.policy.policy import Authorized, Policy, Service

SECONDS: Final = 0.25
"""Of each turn."""
SCREEN_BYTES: Final = 1 << 16
DATAGRAM: Final = b"screen"
BURST: Final = 50
"""Datagrams between two looks at the clock."""
QUIET_SECONDS: Final = 0.1
"""After which nothing more arrives."""
WAITING_BYTES: Final = 64 * 1024 * 1024
_SO_RCVBUFFORCE: Final = 33
_CLONE_NEWNS: Final = 0x00020000

assert ONE_PORT.tunnel
_TUNNEL: Final = ONE_PORT.tunnel.interface
_STREAMED: Final = Service("udp", 5900)
_SESSION: Final = replace(DESKTOP_SESSION, desktop=_STREAMED)
_SOMEWHERE: Final = Authorized("datacenter", (ip_network("203.0.113.5"),), (Service("tcp", 443),))


class Arrivals(NamedTuple):
    """Datagrams a second that were sent, and that arrived; and how many of them did."""

    sent: float
    arrived: float
    share: float


def policy(addresses: int) -> Policy:
    """One port, whose instrument is reached by TCP and UDP, and so many authorized addresses."""
    (port,) = ONE_PORT.ports
    both = replace(port, desktop=(DESKTOP_SESSION.desktop, _STREAMED))
    return crowded(replace(ONE_PORT, ports=(both,), authorized=(_SOMEWHERE,)), addresses)


def datagrams(turns: int, addresses: int) -> list[tuple[Arrivals, Arrivals]]:
    """With the ruleset, and with none. Puts the calling process into a network namespace of its own."""
    hosts = Hosts(addresses)
    sender, *others = sorted(os.sched_getaffinity(0))
    _steer(others[:1])
    os.sched_setaffinity(0, {sender})
    away = others or [sender]
    return [(hosts.guarded(_SESSION).arrivals(away), hosts.unguarded().arrivals(away)) for _ in range(turns)]


def carried(turns: int) -> list[tuple[float, float]]:
    """Bytes a second of one connection: with the ruleset, and with none. As `datagrams`."""
    hosts = Hosts(0)
    return [(hosts.guarded(DESKTOP_SESSION).carried(), hosts.unguarded().carried()) for _ in range(turns)]


class Hosts:
    """Three machines: this process is in the box's namespace."""

    def __init__(self, addresses: int) -> None:
        self._staff, self._instrument = three_namespaces()
        self._policy = policy(addresses)
        self._nft = Nft()

    def guarded(self, session: Session) -> Hosts:
        """The policy is in force, and this session open."""
        Firewall(self._nft).apply(self._policy)
        Sessions(self._nft, self._policy).open(session, 60)
        return self

    def unguarded(self) -> Hosts:
        """There is no ruleset at all."""
        Firewall(self._nft).remove()
        return self

    def carried(self) -> float:
        """A second, from the instrument to the staff."""
        client, server = conversation(self._staff, self._instrument)
        screen = bytes(SCREEN_BYTES)
        showing = os.fork()
        if showing == 0:
            client.close()
            with suppress(BaseException):
                while True:
                    server.sendall(screen)
            os._exit(0)
        server.close()
        seen, room, began = 0, bytearray(SCREEN_BYTES), time.perf_counter()
        while (seconds := time.perf_counter() - began) < SECONDS:
            seen += client.recv_into(room)
        client.close()
        os.waitpid(showing, 0)
        return seen / seconds

    def arrivals(self, processors: list[int]) -> Arrivals:
        """From the staff to the instrument, whose program runs on these processors."""
        near, far = (socket_in(host, socket.SOCK_DGRAM) for host in (self._staff, self._instrument))
        with near, far:
            far.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, WAITING_BYTES)
            far.bind((str(_SESSION.instrument), _STREAMED.port))
            near.connect(far.getsockname())
            near.send(DATAGRAM)
            far.connect(far.recvfrom(len(DATAGRAM))[1])
            far.send(DATAGRAM)  # an answer: from now on the connection is established
            near.recv(len(DATAGRAM))
            found, told = os.pipe()
            reader = os.fork()
            if reader == 0:
                os.sched_setaffinity(0, processors)
                os.write(told, "{} {}".format(*_read(far)).encode())
                os._exit(0)
            os.close(told)
            sent, seconds = _send(near)
            os.waitpid(reader, 0)
            with os.fdopen(found) as said:
                arrived, reading = said.read().split()
        return Arrivals(sent / seconds, int(arrived) / float(reading), int(arrived) / sent)


def _send(near: socket.socket) -> tuple[int, float]:
    """How many, in how many seconds."""
    send, sent, began = near.send, 0, time.perf_counter()
    while (seconds := time.perf_counter() - began) < SECONDS:
        for _ in range(BURST):
            send(DATAGRAM)
        sent += BURST
    return sent, seconds


def _read(far: socket.socket) -> tuple[int, float]:
    """How many, from the first to the last."""
    far.settimeout(SECONDS)
    receive, seen = far.recv, 0
    receive(len(DATAGRAM))
    began = last = time.perf_counter()
    far.settimeout(QUIET_SECONDS)
    with suppress(TimeoutError):
        while True:
            receive(len(DATAGRAM))
            seen, last = seen + 1, time.perf_counter()
    return seen + 1, last - began


def _steer(processors: list[int]) -> None:
    """What comes in from the staff is worked on by these. /sys shows the network of whoever mounted it."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS): needs root")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "sysfs", "none", "/sys"], check=True)
    mask = sum(1 << processor for processor in processors)
    Path(f"/sys/class/net/{_TUNNEL}/queues/rx-0/rps_cpus").write_text(f"{mask:x}")
