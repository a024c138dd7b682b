"""A session's load on the line, with all real programs: `python -m bench.sessions.load [--json]`.

Staff press keys while the instrument draws new plots each second, more than the line of 128 kbit/s can carry.
Meanwhile the instrument's agent raises an alert every second. The benchmark measures the time from a key press to its
echo at the data center, and from raising an alert until the data center has it. Box program, OpenVPN, nftables and
TigerVNC are processes in network namespaces. Needs root.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Final

from agents.instrument.agent import InstrumentAgent
from bench.figures import Figure, figure, run
from bench.sessions.desktop import KEY, BusyAnalyzer, EchoClock, EchoObserver
from bench.sessions.opening import HEARTBEAT_SECONDS
from bench.sessions.shaped_line import ShapedLine
from hal.linux.clock import LinuxClock
from settings.types import Endpoint
from tests.support.agents.sessions.lab import Desktop, SessionLab, session_lab
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.desktop.screens import HEIGHT, WIDTH
from tests.support.desktop.x11 import FullWindow
from tests.support.eventually import eventually
from tests.support.namespaces import NamespaceThread, namespace
from wire.desktop.rfb import KeyEvent
from wire.messages import Alert, InstrumentReport
from wire.session.table import SessionState
from wire.tls.context import client_context

ALERTS: Final = 100
ALERT_SECONDS: Final = 1.0
KEY_SECONDS: Final = 0.7
PAGE_SECONDS: Final = 5.0
ERROR: Final = ("B0101", "barcode-reader", "warning")


class Alerts:
    """An instrument's agent that raises alerts and records their times."""

    def __init__(self, pki: Hierarchy) -> None:
        self.raised_at: dict[int, float] = {}
        self._pki = pki

    async def run(self) -> None:
        """Raise the alerts, and wait until the box has them."""
        agent = InstrumentAgent(
            Endpoint("localhost", 443, "10.77.1.1"),
            client_context(self._pki.instrument),
            run_number=1,
            clock=LinuxClock(),
            random=Random(1),
            on_made=self._record_raised,
        )
        running = asyncio.create_task(agent.run())
        for _ in range(ALERTS):
            agent.submit(Alert, *ERROR)
            await asyncio.sleep(ALERT_SECONDS)
        await eventually(lambda: not agent.waiting)
        running.cancel()

    def _record_raised(self, report: InstrumentReport) -> None:
        self.raised_at[report.number] = time.monotonic()


async def _record_arrivals(lab: SessionLab, arrived_at: dict[int, float]) -> None:
    """Record the time at which the data center has each alert."""
    center = lab.center
    while len(arrived_at) < ALERTS:
        await center.until(lambda: len(center.alerts) > len(arrived_at))
        now = time.monotonic()
        for number in center.alerts:
            arrived_at.setdefault(number, now)


async def _press_keys(desktop: Desktop, clock: EchoClock) -> None:
    while True:
        clock.press()
        await desktop.receiver.send(KeyEvent(KEY, is_down=True))
        await desktop.receiver.send(KeyEvent(KEY, is_down=False))
        await asyncio.sleep(KEY_SECONDS)


def figures() -> list[Figure]:
    """Return the figures of one session, which lasts until all alerts have arrived."""
    clock, arrived_at = EchoClock(), dict[int, float]()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "pki").mkdir()
        pki = Hierarchy.make(folder / "pki")
        line = ShapedLine(stack.enter_context(namespace()))
        lab = stack.enter_context(
            session_lab(folder, pki, heartbeat_s=HEARTBEAT_SECONDS, size=(WIDTH, HEIGHT), plug=line.plug)
        )
        instrument = NamespaceThread(lab.instrument)
        stack.callback(instrument.stop)
        session = lab.request()
        lab.person.enter_code(session.id, session.code)
        lab.reached(session, SessionState.OPEN)
        desktop = lab.connect(session)
        window = stack.enter_context(lab.instrument.run(lambda: FullWindow(lab.vnc.display)))
        desktop.receiver.watch(EchoObserver(desktop.receiver, clock))
        busy = BusyAnalyzer(window)
        busy.start()
        stack.callback(busy.stop)
        alerts = Alerts(pki)
        recording = lab.thread.start(_record_arrivals(lab, arrived_at))
        pressing = lab.thread.start(_press_keys(desktop, clock))
        raising = instrument.start(alerts.run())
        while not (raising.done() and recording.done()):
            lab.person.get()  # keeps the person's page open
            time.sleep(PAGE_SECONDS)
        pressing.cancel()
        assert not session.is_over, session.cause
        lab.person.end(session.id)
        lab.reached(session, SessionState.ENDED)
    delays = [arrived_at[number] - alerts.raised_at[number] for number in alerts.raised_at]
    return [
        figure(
            f"alert to data center during load, p99 of {ALERTS}", "s", quantiles(delays, n=100)[-1], "<= 2.0"
        ),
        figure("  median", "s", median(delays)),
        figure(f"key to echo during load, p95 of {len(clock.seconds)}", "s", clock.p95(), "<= 0.2"),
        figure("  median", "s", median(clock.seconds)),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
