"""The time until a closed remote session passes no more bytes: `python -m bench.firewall.session`. Needs root.

Staff, box and instrument are three network namespaces. A process that has both ends of an established connection
sends a few bytes in each direction every half millisecond, and records when the last bytes arrived; meanwhile the box
closes the session. CLOCK_MONOTONIC is the same for all processes of a machine.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Final, TypeVar

from bench.figures import Figure, figure, run
from bench.firewall.namespace import enter_namespace
from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.kernel.sessions import Sessions
from netfw.policy.policy import Policy, PolicyPort, PolicyTunnel, Service
from netfw.ruleset.sessions import Session
from sim.verdict.latency import quantile

T = TypeVar("T")
_LIBC: Final = ctypes.CDLL(None, use_errno=True)

TIMES: Final = 30
EVERY_SECONDS: Final = 0.0005
BEFORE_SECONDS: Final = 0.05
AFTER_SECONDS: Final = 0.5
"""Long enough for a retransmission, if one could get through."""

DESKTOP: Final = Service("tcp", 5900)
SESSION: Final = Session(ip_address("10.99.0.2"), 1, ip_address("10.77.1.5"), DESKTOP)
POLICY: Final = Policy(
    uplink="wan",
    ports=(PolicyPort(1, "port1", (ip_interface("10.77.1.1/24"),), (), (DESKTOP,)),),
    authorized=(),
    tunnel=PolicyTunnel("tun-rap", (ip_network("10.99.0.0/16"),)),
)
_CABLES: Final = (
    ("tun-rap", "10.99.0.1/16", f"{SESSION.staff}/16"),
    ("port1", "10.77.1.1/24", f"{SESSION.instrument}/24"),
)


def milliseconds(times: int = TIMES) -> list[float]:
    """Return the milliseconds from the call of `close` until the last byte arrived, for each of `times` sessions.

    Moves the calling process into a new network namespace.
    """
    staff, instrument = three_namespaces()
    nft = Nft()
    Firewall(nft).apply(POLICY)
    sessions = Sessions(nft, POLICY)
    return [_closing(sessions, staff, instrument) for _ in range(times)]


def three_namespaces() -> tuple[int, int]:
    """Move this process into the box's namespace. Returns descriptors of the staff's and the instrument's."""
    enter_namespace()
    staff, instrument = (_connect(*cable) for cable in _CABLES)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    return staff, instrument


def _closing(sessions: Sessions, staff: int, instrument: int) -> float:
    """Return the milliseconds from closing one session until the last byte arrived."""
    sessions.open(SESSION, 60)
    client, server = conversation(staff, instrument)
    result, result_in = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os.write(result_in, str(until_silent(client, server, lambda: os.write(result_in, b"!"))).encode())
        os._exit(0)
    os.close(result_in)
    assert os.read(result, 1) == b"!"
    time.sleep(BEFORE_SECONDS)
    closing = time.monotonic()
    ended = sessions.close(SESSION)
    assert ended == 1, "the connection was not tracked"
    os.waitpid(child, 0)
    arrived = float(os.read(result, 64))
    os.close(result)
    client.close()
    server.close()
    return max(0.0, arrived - closing) * 1000


def conversation(staff: int, instrument: int) -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection through the box."""
    listener, client = socket_in(instrument), socket_in(staff)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(SESSION.instrument), DESKTOP.port))
        listener.listen()
        client.connect((str(SESSION.instrument), DESKTOP.port))
        server, _ = listener.accept()
    return client, server


def until_silent(client: socket.socket, server: socket.socket, started: Callable[[], object]) -> float:
    """Send a few bytes in both directions until none arrive. Returns the time when the last ones arrived."""
    ends = client, server
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server.send(b"the first")
    select.select([client], [], [])
    started()
    last = time.monotonic()
    while time.monotonic() < last + AFTER_SECONDS:
        for end in ends:
            with suppress(OSError):  # also the error after a refused packet of the box itself
                end.send(b"a few bytes")
        readable, _, _ = select.select(ends, [], [], EVERY_SECONDS)
        for end in readable:
            end.recv(65536)
            last = time.monotonic()
        if readable:
            time.sleep(EVERY_SECONDS)
    return last


def _connect(name: str, box_address: str, host_address: str) -> int:
    """Connect a new namespace to a new interface of the box. Returns its file descriptor."""
    descriptor = _make_in_thread(enter_namespace, lambda: os.open("/proc/thread-self/ns/net", os.O_RDONLY))
    namespace = f"/proc/{os.getpid()}/fd/{descriptor}"
    _ip(
        f"link add {name} type veth peer name eth0 netns {namespace}",
        f"addr add {box_address} dev {name}",
        f"link set {name} up",
    )
    gateway = box_address.partition("/")[0]
    _ip(
        f"addr add {host_address} dev eth0",
        "link set eth0 up",
        f"route add default via {gateway}",
        within=("nsenter", f"--net={namespace}"),
    )
    return descriptor


def _ip(*commands: str, within: tuple[str, ...] = ()) -> None:
    subprocess.run([*within, "ip", "-batch", "-"], check=True, text=True, input="\n".join((*commands, "")))


def socket_in(namespace: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Return a socket in this namespace."""
    return _make_in_thread(lambda: _enter(namespace), lambda: socket.socket(socket.AF_INET, kind))


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "setns")


def _make_in_thread(enter: Callable[[], None], make: Callable[[], T]) -> T:
    """Return the result of `make` in the network namespace into which `enter` moves a temporary thread."""
    with ThreadPoolExecutor(1, initializer=enter) as thread:
        return thread.submit(make).result()


def figures() -> list[Figure]:
    measuring = [sys.executable, "-m", "bench.firewall.session", "measure"]
    durations = json.loads(subprocess.run(measuring, check=True, stdout=subprocess.PIPE).stdout)
    return [
        figure(
            "firewall: from closing a session until no byte passes, median",
            "ms",
            quantile(sorted(durations), 50),
        ),
        figure(
            "firewall: from closing a session until no byte passes, longest", "ms", max(durations), "<= 50"
        ),
    ]


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        print(json.dumps(milliseconds()))
    else:
        run(figures, __doc__)
