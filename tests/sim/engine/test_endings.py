"""Every run ends with a verdict, or with an error that names the code that the run waits for."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sim.engine.clock import Environment
from sim.engine.stalls import Stalled
from sim.engine.watchdog import CHECKS, StallWatchdog
from sim.lab.labfile import Lab, parse_lab
from sim.net.host import Network, SimHost
from sim.net.loop import SimLoop
from sim.testing import LabUnderTest
from sim.worlds import run_lab
from sim.worlds.virtual.world import VirtualWorld

LAB = """
[lab]
name = "end"
duration = "{duration}"
[box]
board = "rap-4"
[uplink]
rate = "128kbit"
delay = "40ms"
[[instrument]]
port = 1
model = "chemistry-analyzer"
{events}
"""
OUTAGE = """
[[event]]
at = "10min"
fault = "link-degraded"
target = "uplink"
lasts = "4min"
loss = "100%"
"""
SLOW_DISK = """
[[event]]
at = "5min"
fault = "disk-slow"
target = "disk"
flush = "{flush}"
"""


def lab(duration: str, events: str = "") -> Lab:
    return parse_lab(LAB.format(duration=duration, events=events), Path("end.toml"))


@pytest.mark.parametrize("duration", ["1h", "2h", "3601s", "1h1ms"])
def test_a_lab_can_end_during_the_hourly_firewall_check(duration: str) -> None:
    assert run_lab(lab(duration, OUTAGE)).verdict == "pass"


@pytest.mark.parametrize("flush", ["1s", "40s", "5min", "1d"])
def test_a_lab_can_end_during_a_flush(flush: str) -> None:
    result = run_lab(lab("17min", SLOW_DISK.format(flush=flush)))
    assert result.reports.lost == 0
    assert {e.name: e.measured for e in result.expectations}["program_errors"] == 0


@pytest.mark.parametrize("flush", ["40s", "5min", "1d"])
def test_the_lab_fixture_can_end_during_a_flush(flush: str) -> None:
    for checked in (True, False):
        running = LabUnderTest(lab("30d"))
        running.disk.inject("disk-slow", flush=flush)
        running.run_for("7min")
        assert running.box.backlog >= 0
        if checked:
            running.result()
        running.close()
        assert running.world.loop.is_closed()


def test_programs_end_with_the_power_of_their_host_even_if_they_await_in_finally_blocks() -> None:
    loop = SimLoop()
    host = SimHost(Network(), "box")
    ended = []

    async def program() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(loop.env.now)

    host.power_on().run(loop, program())
    loop.run_for(1_000)
    host.power_off()
    loop.run_for(1_000_000)
    assert ended == [1_000] and loop.failures == []


def test_a_program_that_outlives_its_host_is_a_failure_with_its_location() -> None:
    loop = SimLoop()
    host = SimHost(Network(), "box")

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                continue

    host.power_on().run(loop, stubborn())
    loop.run_for(10**9)
    host.power_off()
    loop.run_for(10**9)
    assert (
        len(loop.failures) == 1 and "stubborn" in loop.failures[0] and "test_endings.py" in loop.failures[0]
    )


def test_a_lab_without_events_is_reported_with_its_waiting_tasks() -> None:
    loop = SimLoop()

    async def for_ever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(
        Stalled, match=r"(?s)at 5s of lab time.*no event.*for_ever.*Event\.wait \(locks\.py:\d+\)"
    ):
        loop.run_for(5 * 10**9)
        loop.run_until_complete(for_ever())


def busy_task(loop: SimLoop) -> None:
    async def busy() -> None:
        while True:
            await asyncio.sleep(0)

    loop.create_task(busy())


def busy_callbacks(loop: SimLoop) -> None:
    def again() -> None:
        loop.call_soon(again)

    again()


def busy_process(loop: SimLoop) -> None:
    def process(env: Environment):  # type: ignore[no-untyped-def]
        while True:
            yield env.timeout(0)

    loop.env.process(process(loop.env))


def busy_events(loop: SimLoop) -> None:
    def again(_: object) -> None:
        loop.env.after(0, again)

    again(None)


@pytest.mark.parametrize("begin", [busy_task, busy_callbacks, busy_process, busy_events])
def test_an_endless_loop_at_one_instant_is_detected(
    begin: Callable[[SimLoop], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.engine.loop.CALLBACKS_AT_ONE_INSTANT_MAX", 1000)
    monkeypatch.setattr("sim.engine.clock._STEPS", range(1000))
    loop = SimLoop()
    loop.run_for(7 * 10**9)
    begin(loop)
    with pytest.raises(Stalled, match="at 7s of lab time"):
        loop.run_for(1)


def test_a_world_that_cannot_be_closed_names_the_task_that_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    world = VirtualWorld(lab("1h"))

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                continue

    world.loop.create_task(stubborn())
    world.run_until(10**9)
    assert list(tmp_path.iterdir()) != []
    with pytest.raises(Stalled, match="stubborn"):
        world.close()
    assert world.loop.is_closed()
    assert list(tmp_path.iterdir()) == []


def test_the_watchdog_interrupts_code_that_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, checks, seconds = SimLoop(), 0, 0.0
    loop.run_for(3 * 10**9)
    monkeypatch.setattr("sim.engine.watchdog.time.monotonic", lambda: seconds)

    def endless() -> None:
        """Loop for long; the patched clock advances only here, so the timer's signals are raised here, too."""
        nonlocal checks, seconds
        while checks < 10 * CHECKS:
            checks, seconds = checks + 1, seconds + 120 / CHECKS
            signal.raise_signal(signal.SIGALRM)

    loop.call_soon(endless)
    with (
        pytest.raises(
            Stalled, match=r"lab time has stood at 3s for 120 s .*endless \(.*test_endings\.py:\d+\)"
        ),
        StallWatchdog(seconds_max=120) as watchdog,
    ):
        assert signal.getitimer(signal.ITIMER_REAL)[1] == 120 / CHECKS
        watchdog.watch(lambda: loop.env.now, loop)
        loop.run_for(1)
    assert checks == CHECKS + 1
    assert signal.getitimer(signal.ITIMER_REAL)[1] == 0


def test_the_watchdog_does_not_interrupt_a_run_that_makes_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = SimLoop()
    seconds = iter(range(1000))
    monkeypatch.setattr("sim.engine.watchdog.time.monotonic", lambda: next(seconds) * 60)
    with StallWatchdog(seconds_max=120) as watchdog:
        watchdog.watch(lambda: loop.env.now, loop)
        for _ in range(20):
            loop.run_for(1)
            signal.raise_signal(signal.SIGALRM)


def test_the_command_ends_with_exit_status_1_and_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "end.toml"
    file.write_text(LAB.format(duration="1h", events=""))
    program = (
        "import sys, sim.worlds.virtual.world as v\n"
        "async def busy(self):\n"
        "    while True: await v.asyncio.sleep(0)\n"
        "v.VirtualWorld._sample = busy\n"
        "from rap.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, "lab", "run", file], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1, ended.stderr
    assert "no lab time passed" in ended.stderr and "busy" in ended.stderr
    assert "Traceback" not in ended.stderr
