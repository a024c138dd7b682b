"""How long a closed remote session still lets bytes through: `python -m bench.firewall_session [--json]`. Needs root.

Staff, box and instrument are three network namespaces. A process at both ends of an established connection sends a
few bytes each way every half millisecond, and keeps when the last ones arrived; the box closes the session meanwhile.
Clocks are one: CLOCK_MONOTONIC is the same for all processes of a machine.
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
from bench.firewall_world import enter_namespace
from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.kernel.sessions import Session, Sessions
from netfw.policy.policy import Policy, PolicyPort, PolicyTunnel, Service
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
    """From the order to close until the last byte arrived, once for each of so many sessions.

    Puts the calling process into a network namespace of its own, so give it a process of its own.
    """
    staff, instrument = three_namespaces()
    nft = Nft()
    Firewall(nft).apply(POLICY)
    sessions = Sessions(nft, POLICY)
    return [_closing(sessions, staff, instrument) for _ in range(times)]


def three_namespaces() -> tuple[int, int]:
    """Put this process into a namespace that is the box; descriptors of those of the staff and of the instrument."""
    enter_namespace()
    staff, instrument = (_place(*cable) for cable in _CABLES)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    return staff, instrument


def _closing(sessions: Sessions, staff: int, instrument: int) -> float:
    """Milliseconds for one session."""
    sessions.open(SESSION, 60)
    client, server = conversation(staff, instrument)
    last, told = os.pipe()
    talking = os.fork()
    if talking == 0:
        with suppress(BaseException):
            os.write(told, str(_talk(client, server, lambda: os.write(told, b"!"))).encode())
        os._exit(0)
    os.close(told)
    assert os.read(last, 1) == b"!"
    time.sleep(BEFORE_SECONDS)
    ordered = time.monotonic()
    ended = sessions.close(SESSION)
    assert ended == 1, "the conversation was not tracked"
    os.waitpid(talking, 0)
    arrived = float(os.read(last, 64))
    os.close(last)
    client.close()
    server.close()
    return max(0.0, arrived - ordered) * 1000


def conversation(staff: int, instrument: int) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection through the box."""
    listener, client = socket_in(instrument), socket_in(staff)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(SESSION.instrument), DESKTOP.port))
        listener.listen()
        client.connect((str(SESSION.instrument), DESKTOP.port))
        server, _ = listener.accept()
    return client, server


def _talk(client: socket.socket, server: socket.socket, begun: Callable[[], object]) -> float:
    """Both say a few bytes again and again, until none arrive any more; when the last ones did."""
    ends = client, server
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server.send(b"the first")
    select.select([client], [], [])
    begun()
    last = time.monotonic()
    while time.monotonic() < last + AFTER_SECONDS:
        for end in ends:
            with suppress(BlockingIOError):
                end.send(b"a few bytes")
        readable, _, _ = select.select(ends, [], [], EVERY_SECONDS)
        for end in readable:
            end.recv(65536)
            last = time.monotonic()
        if readable:
            time.sleep(EVERY_SECONDS)
    return last


def _place(name: str, here: str, there: str) -> int:
    """A namespace at the other end of a new cable of the box; its file descriptor."""
    descriptor = _made_elsewhere(enter_namespace, lambda: os.open("/proc/thread-self/ns/net", os.O_RDONLY))
    place = f"/proc/{os.getpid()}/fd/{descriptor}"
    _ip(
        f"link add {name} type veth peer name eth0 netns {place}",
        f"addr add {here} dev {name}",
        f"link set {name} up",
    )
    gateway = here.partition("/")[0]
    _ip(
        f"addr add {there} dev eth0",
        "link set eth0 up",
        f"route add default via {gateway}",
        within=("nsenter", f"--net={place}"),
    )
    return descriptor


def _ip(*commands: str, within: tuple[str, ...] = ()) -> None:
    subprocess.run([*within, "ip", "-batch", "-"], check=True, text=True, input="\n".join((*commands, "")))


def socket_in(place: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A socket in that namespace."""
    return _made_elsewhere(lambda: _enter(place), lambda: socket.socket(socket.AF_INET, kind))


def _enter(place: int) -> None:
    if _LIBC.setns(place, 0):
        raise OSError(ctypes.get_errno(), "setns")


def _made_elsewhere(go: Callable[[], None], make: Callable[[], T]) -> T:
    """What `make` makes in the namespace where `go` leads; only a thread goes there, and ends there."""
    with ThreadPoolExecutor(1, initializer=go) as thread:
        return thread.submit(make).result()


def figures() -> list[Figure]:
    """In a process of its own, which has a namespace of its own."""
    measuring = [sys.executable, "-m", "bench.firewall_session", "measure"]
    found = json.loads(subprocess.run(measuring, check=True, stdout=subprocess.PIPE).stdout)
    return [
        figure("firewall: session closed until no byte passes, median", "ms", quantile(sorted(found), 50)),
        figure("firewall: session closed until no byte passes, longest", "ms", max(found), "<= 50"),
    ]


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        print(json.dumps(milliseconds()))
    else:
        run(figures, __doc__)
