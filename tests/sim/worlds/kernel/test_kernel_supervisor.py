"""A lab ends with its supervisor and leaves nothing behind, no matter when and how it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sim.engine.stalls import Stalled
from sim.net.link import LinkQuality
from sim.worlds.kernel import (
    KernelLab,
    LabEnded,
    LabExists,
    NoSuchLab,
    RequestRefused,
    ask,
    call_in_host,
    down,
    running,
    up,
)
from sim.worlds.kernel.supervision.registry import supervisor_of
from sim.worlds.kernel.supervision.supervisor import run
from tests.support.eventually import eventually, poll_until

pytestmark = pytest.mark.kernel

KILLS = 20
STAGES = 5  # a lab is killed when it has made 0 to 4 networks
BETWEEN_STAGES_SECONDS = 0.03
QUALITY = LinkQuality(rate_bits=128_000, delay_ns=40_000_000, loss=0.01)


async def big(lab: KernelLab) -> None:
    """Run a lab with every kind of resource that could be left behind; it does not end by itself."""
    box = lab.host("box")
    for number in range(3):
        other = lab.host(f"instrument{number}")
        lab.link(f"instrument:{number}", (box, f"eth{number}"), (other, "eth0"), QUALITY)
        box.address(f"eth{number}", f"10.0.{number}.1/24")
        other.address("eth0", f"10.0.{number}.2/24")
        other.spawn(["sh", "-c", "setsid sleep 1000 & exec sleep 1000"])
    Path("/tmp/left-over").write_text("left over")  # noqa: ASYNC240
    lab.disk(f"ssd-{lab.name}", 4_000_000)
    lab.is_up()
    await asyncio.Event().wait()


def names(folder: str) -> list[str]:
    return sorted(entry.name for entry in Path(folder).iterdir())


def networks() -> list[str]:
    """Return the network namespaces that have processes."""
    namespaces = set()
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        with suppress(OSError):  # the process has ended
            namespaces.add(str(path.readlink()))
    return sorted(namespaces)


def census() -> dict[str, Any]:
    """Return all resources that a lab could leave behind, as far as this process sees them."""
    return {
        "processes": [name for name in names("/proc") if name.isdecimal()],
        "mounts": Path("/proc/mounts").read_text(),
        "interfaces": names("/sys/class/net"),
        "networks": networks(),
        "files": [names(folder) for folder in ("/tmp", "/run", "/var/tmp", "/dev/shm")],
        "labs": running(),
    }


def loops(name: str) -> list[str]:
    """Return the backing files of loop devices for disks of labs whose names begin with `name`."""
    paths = []
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # the device is being released
            paths.append(file.read_text())
    return [path for path in paths if f"ssd-{name}" in path]


def settles(before: object, observe: Callable[[], object]) -> bool:
    """Wait until `observe()` returns the earlier value; return whether it does."""
    with suppress(TimeoutError):
        poll_until(lambda: observe() == before)
    return observe() == before


def killed(name: str, networks_more: int, after_seconds: float) -> int:
    """Kill a `big` lab `after_seconds` after it has made `networks_more` networks; return the number of all then."""
    expected = len(networks()) + networks_more
    pid = os.fork()
    if pid == 0:
        try:
            run(name, big)
        finally:
            os._exit(1)
    with suppress(TimeoutError):
        poll_until(lambda: len(networks()) >= expected)
    moment = time.monotonic() + after_seconds
    poll_until(lambda: time.monotonic() >= moment)
    count = len(networks())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return count


def test_run_returns_the_result_of_main_and_raises_its_exceptions(name: str) -> None:
    async def sums(lab: KernelLab) -> int:
        return len(lab.name) + os.getppid()

    async def fails(lab: KernelLab) -> None:
        raise ZeroDivisionError(lab.name)

    class Local(Exception):
        """A local class, which cannot be pickled."""

    async def fails_locally(lab: KernelLab) -> None:
        raise Local("cannot be pickled")

    assert run(name, sums) == len(name) + 1
    with pytest.raises(ZeroDivisionError, match=name) as caught:
        run(name, fails)
    assert "raise ZeroDivisionError(lab.name)" in caught.value.__notes__[0]
    with pytest.raises(LabEnded, match="cannot be pickled"):
        run(name, fails_locally)


def test_the_namespaces_of_the_caller_are_unchanged(name: str) -> None:
    def namespaces() -> list[str]:
        return [str(path.readlink()) for path in sorted(Path("/proc/thread-self/ns").iterdir())]

    async def main(lab: KernelLab) -> list[str]:
        lab.host("box")
        return namespaces()

    before = namespaces()
    inside = run(name, main)
    assert namespaces() == before
    assert len(set(inside) & set(before)) < len(set(before)) - 4
    subprocess.run(["true"], check=True)


def test_a_lab_can_write_only_to_the_given_folders(name: str, tmp_path: Path) -> None:
    async def main(lab: KernelLab) -> list[str]:
        refused: list[str] = []
        for folder in ("/", "/etc", "/var", str(Path(__file__).parent)):
            try:
                (Path(folder) / "left-over").touch()
            except OSError as error:
                refused.append(str(error.strerror))
        Path("/tmp/left-over").touch()  # noqa: ASYNC240
        (tmp_path / "report").write_text("kept")
        return refused

    assert run(name, main, writable=[tmp_path]) == ["Read-only file system"] * 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"]
    assert not Path("/tmp/left-over").exists()


def test_a_lab_runs_until_it_is_taken_down(name: str) -> None:
    assert name not in running()
    up(name, big)
    try:
        assert name in running()
        with pytest.raises(LabExists, match=f"rap lab down {name}"):
            up(name, big)
        with pytest.raises(LabExists):
            run(name, big)
        assert (
            call_in_host(name, "box", ["sh", "-c", "test $(hostname) = box -a -e /sys/class/net/eth2"]) == 0
        )
        assert call_in_host(name, "box", ["sh", "-c", "exit 7"]) == 7
        assert call_in_host(name, "box", ["sh", "-c", "kill -9 $$"]) == 128 + 9
        assert call_in_host(name, "box", ["no-such-program"]) == 127
        with pytest.raises(RequestRefused, match="'bax'; it has box, instrument0"):
            call_in_host(name, "bax", ["true"])
        with pytest.raises(RequestRefused, match="does not support"):
            ask(name, {"please": "dance"})
    finally:
        down(name)
    assert name not in running()
    assert settles([], partial(loops, name))
    with pytest.raises(NoSuchLab, match=name):
        down(name)


def test_a_running_lab_answers_requests(name: str) -> None:
    async def doubles(request: dict[str, int]) -> int:
        if "number" not in request:
            raise RequestRefused("wants a number")
        return 2 * request["number"]

    async def main(lab: KernelLab) -> None:
        lab.control.handler = doubles
        lab.is_up()
        await asyncio.Event().wait()

    up(name, main)
    try:
        assert ask(name, {"number": 21}) == 42
        with pytest.raises(RequestRefused, match="wants a number"):
            ask(name, {})
    finally:
        down(name)


def test_a_lab_that_ends_before_it_is_up_raises_an_error(name: str) -> None:
    async def ends(lab: KernelLab) -> None:
        pass

    async def fails(lab: KernelLab) -> None:
        raise ZeroDivisionError

    with pytest.raises(LabEnded, match="before it was up"):
        up(name, ends)
    with pytest.raises(ZeroDivisionError):
        up(name, fails)
    assert name not in running()


@pytest.mark.parametrize("start", [run, up])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_the_signal_that_ends_a_lab_is_named(
    name: str, start: Callable[..., object], number: signal.Signals
) -> None:
    async def ends(lab: KernelLab) -> None:
        os.kill(os.getpid(), number)

    with pytest.raises(LabEnded, match=f"without a result: killed by {number.name}"):
        start(name, ends)
    assert name not in running()


@pytest.mark.parametrize("wrong", ["", "two words", "a/b", "ü", "x" * 65])
def test_an_invalid_name_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="cannot name a lab"):
        run(wrong, big)


def test_two_labs_run_independently_at_the_same_time(name: str) -> None:
    async def main(lab: KernelLab) -> list[str]:
        host = lab.host("box")
        with host.inside(), socket.socket() as anywhere:
            anywhere.bind(("127.0.0.1", 9))
        return names("/run/netns")

    up(name, big)
    try:
        assert run(f"{name}-too", main) == ["box"]
    finally:
        down(name)


def test_a_lab_killed_at_any_moment_leaves_nothing_behind(name: str) -> None:
    """The labs run in another lab, so that the census does not include other processes of this machine."""
    moments = Random(name.rpartition("-")[2])

    async def machine(lab: KernelLab) -> tuple[list[int], dict[str, Any], dict[str, Any]]:
        before = census()
        stages = []
        for number in range(KILLS):
            moment = moments.uniform(0, BETWEEN_STAGES_SECONDS)
            stages.append(killed(f"{name}-{number}", number % STAGES, moment))
            if not settles(before, census):
                break
        return stages, before, census()

    stages, before, after = run(name, machine)
    assert after == before
    assert len(stages) == KILLS
    assert min(stages) < max(stages)  # killed early and late
    assert max(stages) >= STAGES - 1
    assert settles([], partial(loops, name))


def test_the_end_of_its_supervisor_removes_the_lab(name: str) -> None:
    async def machine(lab: KernelLab) -> tuple[dict[str, Any], dict[str, Any], int, bool]:
        before = census()
        up(f"{name}-inner", big)
        while_up, loops_up = census(), len(loops(name))
        supervisor = supervisor_of(f"{name}-inner")
        signal.pidfd_send_signal(supervisor, signal.SIGKILL)
        os.waitid(os.P_PIDFD, supervisor, os.WEXITED)  # noqa: ASYNC222
        os.close(supervisor)
        return before, while_up, loops_up, settles(before, census)

    before, while_up, loops_up, is_clean = run(name, machine)
    assert is_clean
    assert loops_up == 1
    assert settles([], partial(loops, name))
    assert len(while_up["processes"]) >= len(before["processes"]) + 8
    assert while_up["labs"] == [f"{name}-inner"]
    assert len(while_up["networks"]) > len(before["networks"])


async def stuck_in_a_system_call(lab: KernelLab) -> None:
    waiting = asyncio.get_running_loop().create_task(asyncio.Event().wait(), name="waits-1")
    await asyncio.sleep(0)
    lab.deadline.within(0.2, "reading from the pipe")
    os.read(os.pipe()[0], 1)  # blocks, like a read from a disk that does not respond
    await waiting


def test_a_lab_that_hangs_in_a_system_call_is_ended_with_its_location(name: str) -> None:
    with pytest.raises(Stalled) as caught:
        run(name, stuck_in_a_system_call)
    message = str(caught.value)
    assert "reading from the pipe has taken" in message
    assert "in stuck_in_a_system_call" in message and "os.read(" in message
    assert "Event.wait (locks.py:" in message
    assert name not in running()


def test_a_deadline_that_is_met_has_no_effect(name: str) -> None:
    async def main(lab: KernelLab) -> str:
        lab.deadline.within(0.05, "the first step")
        lab.deadline.within(60, "the second step")
        first_is_over = time.monotonic() + 0.1
        await eventually(lambda: time.monotonic() > first_is_over)
        lab.deadline.cancel()
        return "done"

    assert run(name, main) == "done"


async def stopped(_lab: KernelLab) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def test_a_lab_that_does_not_respond_is_killed(name: str) -> None:
    with pytest.raises(Stalled, match="gave no answer within 2 s"):
        run(name, stopped, seconds_max=2)
    assert name not in running()
