"""The time to open and to end sessions, and their bytes, with all real programs: `python -m
bench.sessions.opening [--json]`.

The box program, OpenVPN at both ends, nftables, TigerVNC, squid and dante run in network namespaces. Opening is
measured from the moment when the person sends the code until the data center is connected to the desktop; the end is
measured until the last packet in the box's TUN device, while staff move the pointer. Needs root.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from bench.figures import Figure, figure, run
from bench.sessions.shaped_line import ShapedLine
from datacenter.sessions.session import DeskSession
from settings.types import ProxyKind
from tests.support.agents.sessions.lab import DEVICE, Desktop, SessionLab, session_lab
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import poll_until
from tests.support.namespaces import namespace
from wire.desktop.rfb import PointerEvent
from wire.session.table import SessionState

TIMES: Final = 5
"""How often each end is measured; the longest counts."""
HEARTBEAT_SECONDS: Final = 5.0
"""Interval of the box's own messages, whose answers carry offers; 300 by default. One takes 40 ms of the line."""
IDLE_SECONDS: Final = 60.0
PAGE_SECONDS: Final = 5.0
QUIET_SECONDS: Final = 1.5
"""Time without a packet after which the transfer counts as finished."""
POINTER_SECONDS: Final = 0.005


def figures() -> list[Figure]:
    """Open, idle and end sessions."""
    measured = []
    for kind in (None, "http", "socks5"):
        with _slow_lab(kind) as (lab, _):
            measured += _opening(lab, kind)
    with _slow_lab(None) as (lab, line):
        measured += _idle_then_dead(lab, line)
    with tempfile.TemporaryDirectory() as folder, session_lab(Path(folder), _pki(folder)) as lab:
        measured += _ends(lab)
    return measured


@contextmanager
def _slow_lab(kind: ProxyKind | None) -> Iterator[tuple[SessionLab, ShapedLine]]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        line = ShapedLine(stack.enter_context(namespace()))
        lab = stack.enter_context(
            session_lab(Path(folder), _pki(folder), kind, heartbeat_s=HEARTBEAT_SECONDS, plug=line.plug)
        )
        yield lab, line


def _pki(folder: str) -> Hierarchy:
    keys = Path(folder) / "pki"
    keys.mkdir()
    return Hierarchy.make(keys)


def _permitted(lab: SessionLab) -> tuple[DeskSession, float]:
    """Open a session; return it, and the time at which the person sent the code."""
    session = lab.request()
    page = lab.person.code_form(session.id, session.code)
    began = time.monotonic()
    page()
    lab.reached(session, SessionState.OPEN)
    return session, began


def _opening(lab: SessionLab, kind: ProxyKind | None) -> list[Figure]:
    seconds, pictures, bytes_up = [], [], []
    for number in range(TIMES):
        session = lab.request()
        before = lab.counters()
        if number == 0:
            bytes_before = before["tunnel_up"][1] + lab.device_packets()
        send = lab.person.code_form(session.id, session.code)
        began = time.monotonic()
        send()
        lab.reached(session, SessionState.OPEN)
        bytes_up.append(lab.counters()["tunnel_up"][1] - before["tunnel_up"][1])
        desktop = lab.begin(session)
        seconds.append(time.monotonic() - began)
        lab.wait_for_picture(desktop)
        pictures.append(time.monotonic() - began)
        lab.person.end(session.id)
        lab.reached(session, SessionState.ENDED)
    path = kind or "direct"
    return [
        figure(f"{path}: bytes of the tunnel before the grant", "B", bytes_before, "<= 0"),
        figure(
            f"{path}: opening, from the code to a connection with the desktop", "s", max(seconds), "<= 1.0"
        ),
        figure(f"{path}:   median", "s", median(seconds)),
        figure(f"{path}:   until the first message of the picture", "s", median(pictures)),
        figure(f"{path}: bytes up while opening", "B", max(bytes_up), "<= 4000"),
    ]


def _idle_then_dead(lab: SessionLab, line: ShapedLine) -> list[Figure]:
    session, _ = _permitted(lab)
    lab.connect(session)
    _watch_page(lab, PAGE_SECONDS)  # the first picture is complete
    before = lab.counters()
    _watch_page(lab, IDLE_SECONDS)
    after = lab.counters()
    names = ("tunnel_up", "tunnel_down", "all_up", "all_down")
    up, down, all_up, all_down = (after[name][1] - before[name][1] for name in names)
    line.lose_everything()
    began = time.monotonic()
    noticed_s = []
    conditions: tuple[Callable[[], bool], ...] = (
        lambda: session.is_over,
        lambda: "openvpn" not in _children(lab),
    )
    for is_over in conditions:
        while not is_over():
            if (time.monotonic() - began) % PAGE_SECONDS < 0.1:
                lab.person.get()
            time.sleep(0.05)
        noticed_s.append(time.monotonic() - began)
    return [
        figure("idle tunnel, both directions", "B/min", up + down, "<= 1500"),
        figure("  the whole line, with the box's own messages every 5 s", "B/min", all_up + all_down),
        figure("dead line noticed by the data center", "s", noticed_s[0], "<= 30"),
        figure("dead line noticed by the box", "s", noticed_s[1], "<= 30"),
    ]


def _watch_page(lab: SessionLab, seconds: float) -> None:
    """Wait, while the person's page polls."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        lab.person.get()
        time.sleep(min(left, PAGE_SECONDS))


def _children(lab: SessionLab) -> str:
    children = Path(f"/proc/{lab.program.pid}/task/{lab.program.pid}/children").read_text().split()
    return " ".join(Path(f"/proc/{child}/comm").read_text() for child in children)


def _ends(lab: SessionLab) -> list[Figure]:
    causes: dict[str, Callable[[DeskSession], object]] = {
        "the person ends": lambda session: lab.person.end_form(session.id)(),
        "staff end": lambda session: lab.thread.call(lab.center.desk.end(session.id)),
        "SIGKILL of the box's OpenVPN": lambda _: os.kill(lab.openvpn_of_box(), signal.SIGKILL),
        "SIGKILL of the data center's OpenVPN": lambda _: os.kill(lab.endpoints[-1].pid, signal.SIGKILL),
        "SIGKILL of the box program": lambda _: lab.program.kill(),
    }
    measured = []
    for name, act in causes.items():
        seconds = []
        for _ in range(1 if "box program" in name else TIMES):
            session, _began = _permitted(lab)
            seconds.append(_last_packet(lab, lab.connect(session), lambda: act(session)))  # noqa: B023
        bound = "<= 0.1" if "SIGKILL" in name else "<= 0.05"
        measured.append(figure(f"{name}: until the last packet", "s", max(seconds), bound))
        measured.append(figure("  median", "s", median(seconds)))
    return measured


def _last_packet(lab: SessionLab, desktop: Desktop, act: Callable[[], object]) -> float:
    """Move the pointer all the time, end the session, and return the time until the last packet of the device."""

    async def move() -> None:
        x = 0
        while True:
            x = (x + 1) % 100
            await desktop.receiver.send(PointerEvent(0, x, 50))
            await asyncio.sleep(POINTER_SECONDS)

    moving = lab.thread.start(move())
    with lab.box.run(lambda: Path("/proc/thread-self/net/dev").open()) as counters:

        def packets() -> int:
            counters.seek(0)
            fields = next(line for line in counters if DEVICE in line).split(":")[1].split()
            return int(fields[1]) + int(fields[9])

        first = packets()
        poll_until(lambda: packets() > first + 20)
        count, began = packets(), time.monotonic()
        last = began
        acting = threading.Thread(target=act)
        acting.start()  # packets are counted meanwhile
        while time.monotonic() < last + QUIET_SECONDS:
            if (current := packets()) != count:
                count, last = current, time.monotonic()
            time.sleep(0.001)
    acting.join()
    moving.cancel()
    return last - began


if __name__ == "__main__":
    run(figures, __doc__)
