"""Throughput of one UDP flow through the box, alternating with and without the ruleset.

Staff, box and instrument are three network namespaces. A session is open, and a program in the namespace of the staff
sends datagrams of a few bytes to a program in that of the instrument as fast as it can. The sender has a processor to
itself, like a separate machine. Receive packet steering moves the box's work, which the kernel would otherwise do in
the sender's time, to another processor (Documentation/networking/scaling.rst). The datagrams that the receiving
program reads are counted. `bench.firewall.forward` reports the figures.
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

from bench.firewall.session import POLICY as ONE_PORT
from bench.firewall.session import SESSION as DESKTOP_SESSION
from bench.firewall.session import socket_in, three_namespaces
from bench.firewall.testbed import with_addresses
from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.kernel.sessions import Sessions
from netfw.policy.policy import Authorized, Policy, Service
from netfw.ruleset.sessions import Session

SECONDS: Final = 0.25
"""Duration of each turn."""
DATAGRAM: Final = b"screen"
BURST: Final = 50
"""Datagrams sent between two readings of the clock."""
QUIET_SECONDS: Final = 0.1
"""Time without a datagram after which the receiver stops."""
WAITING_BYTES: Final = 64 * 1024 * 1024
_SO_RCVBUFFORCE: Final = 33
_CLONE_NEWNS: Final = 0x00020000

assert ONE_PORT.tunnel
_TUNNEL: Final = ONE_PORT.tunnel.interface
_STREAMED: Final = Service("udp", 5900)
_SESSION: Final = replace(DESKTOP_SESSION, desktop=_STREAMED)
_SOMEWHERE: Final = Authorized("datacenter", (ip_network("203.0.113.5"),), (Service("tcp", 443),))


class FlowRates(NamedTuple):
    """Datagrams sent per second, datagrams received per second, and the share of those sent that was received."""

    sent: float
    arrived: float
    share: float


def policy(addresses: int) -> Policy:
    """Return a policy with one port, whose desktop is reached by TCP and UDP, and this many authorized addresses."""
    (port,) = ONE_PORT.ports
    both = replace(port, desktop=(DESKTOP_SESSION.desktop, _STREAMED))
    return with_addresses(replace(ONE_PORT, ports=(both,), authorized=(_SOMEWHERE,)), addresses)


def datagrams(turns: int, addresses: int) -> list[tuple[FlowRates, FlowRates]]:
    """Return the arrivals with and without the ruleset, measured in turns.

    Moves the calling process into a new network namespace.
    """
    hosts = Hosts(addresses)
    sender, *others = sorted(os.sched_getaffinity(0))
    _steer(others[:1])
    os.sched_setaffinity(0, {sender})
    away = others or [sender]
    return [(hosts.guarded(_SESSION).arrivals(away), hosts.unguarded().arrivals(away)) for _ in range(turns)]


class Hosts:
    """The three namespaces; this process is in the box's namespace."""

    def __init__(self, addresses: int) -> None:
        self._staff, self._instrument = three_namespaces()
        self._policy = policy(addresses)
        self._nft = Nft()

    def guarded(self, session: Session) -> Hosts:
        """Apply the policy and open this session."""
        Firewall(self._nft).apply(self._policy)
        Sessions(self._nft, self._policy).open(session, 60)
        return self

    def unguarded(self) -> Hosts:
        """Remove the ruleset."""
        Firewall(self._nft).remove()
        return self

    def arrivals(self, processors: list[int]) -> FlowRates:
        """Send from the staff to the instrument, whose program runs on these processors."""
        near, far = (socket_in(host, socket.SOCK_DGRAM) for host in (self._staff, self._instrument))
        with near, far:
            far.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, WAITING_BYTES)
            far.bind((str(_SESSION.instrument), _STREAMED.port))
            near.connect(far.getsockname())
            near.send(DATAGRAM)
            far.connect(far.recvfrom(len(DATAGRAM))[1])
            far.send(DATAGRAM)  # a reply establishes the connection
            near.recv(len(DATAGRAM))
            result, result_in = os.pipe()
            reader = os.fork()
            if reader == 0:
                os.sched_setaffinity(0, processors)
                os.write(result_in, "{} {}".format(*_read(far)).encode())
                os._exit(0)
            os.close(result_in)
            sent, seconds = _send(near)
            os.waitpid(reader, 0)
            with os.fdopen(result) as file:
                arrived, reading = file.read().split()
        return FlowRates(sent / seconds, int(arrived) / float(reading), int(arrived) / sent)


def _send(near: socket.socket) -> tuple[int, float]:
    """Send datagrams for a turn. Returns their number and the seconds that it took."""
    send, sent, began = near.send, 0, time.perf_counter()
    while (seconds := time.perf_counter() - began) < SECONDS:
        for _ in range(BURST):
            send(DATAGRAM)
        sent += BURST
    return sent, seconds


def _read(far: socket.socket) -> tuple[int, float]:
    """Read datagrams. Returns their number and the seconds from the first to the last."""
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
    """Process packets from the staff on these processors.

    /sys is mounted again, because it shows the network namespace of the process that mounted it.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS): needs root")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "sysfs", "none", "/sys"], check=True)
    mask = sum(1 << processor for processor in processors)
    Path(f"/sys/class/net/{_TUNNEL}/queues/rx-0/rps_cpus").write_text(f"{mask:x}")
