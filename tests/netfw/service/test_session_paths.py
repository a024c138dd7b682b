"""Paths of sessions that clients open by a running firewall service: permissions, valid paths, and their ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from random import Random
from threading import Thread

import pytest

from netfw.events import Alarm, Event, FirewallState, PathsLost, Repair
from netfw.policy.policy import Service
from netfw.policy.policyfile import load_policy
from netfw.ruleset import names
from netfw.ruleset.sessions import Session
from netfw.service.client import FirewallClient, at_socket
from netfw.service.protocol import ClosePath, Hello, OpenPath, framed
from tests.support.eventually import WAIT_SECONDS_MAX, eventually, poll_until
from tests.support.netfw.boxlab import INSTRUMENT, POLICIES, STAFF, BoxLab, box_lab
from tests.support.netfw.forged_requests import forged
from tests.support.netfw.service_process import ServiceClient, ready, service

pytestmark = pytest.mark.kernel

NOBODY = 65534
DESKTOP = 5900
PATHS = {
    version: Session(
        ip_address(STAFF[version]), 1, ip_address(INSTRUMENT[1][version]), Service("tcp", DESKTOP)
    )
    for version in (4, 6)
}
PATH = PATHS[4]
OPEN, CLOSE = OpenPath.of(PATH, seconds=600), ClosePath.of(PATH)


@pytest.fixture(scope="module")
def shared() -> Iterator[BoxLab]:
    with box_lab() as lab:
        yield lab


@pytest.fixture
def lab(shared: BoxLab) -> BoxLab:
    shared.apply(load_policy(POLICIES / "clinic.toml"))
    for entry in shared.sessions.list():
        shared.box.run(lambda entry=entry: shared.sessions.close(entry.session))  # type: ignore[misc]
    return shared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that only root can write to, inside one that other users can access."""
    for path in (tmp_path, *list(tmp_path.parents)[:3]):
        path.chmod(0o755)
    shutil.copy(POLICIES / "clinic.toml", tmp_path / "firewall.toml")
    return tmp_path


@pytest.fixture
def running(lab: BoxLab, folder: Path) -> Iterator[subprocess.Popen[str]]:
    with service(lab.box, folder, "--ready", f"{folder}/ready") as process:
        ready(process)
        poll_until((folder / "ready").exists)
        assert process.stderr is not None
        Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop the service
        yield process


def attempt(lab: BoxLab, version: int = 4) -> str:
    return lab.attempt(lab.staff, lab.instrument[1], INSTRUMENT[1][version], DESKTOP)


def follow(folder: Path, act: Callable[[FirewallClient, list[Event]], object]) -> list[Event]:
    """Call `act` with a client that has received the firewall's state; return all events that it received."""

    async def main() -> list[Event]:
        events: list[Event] = []
        client = FirewallClient(at_socket(folder / "socket"))
        following = asyncio.ensure_future(client.follow(events.append))
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await eventually(lambda: any(isinstance(event, FirewallState) for event in events))
            await act(client, events)  # type: ignore[misc]
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        return events

    return asyncio.run(main())


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("version", [4, 6])
def test_the_box_program_opens_and_closes_a_path(version: int, lab: BoxLab, folder: Path) -> None:
    async def act(client: FirewallClient, _: list[Event]) -> None:
        assert await asyncio.to_thread(attempt, lab, version) == names.TUNNEL
        assert await client.open_path(PATHS[version], 600)
        assert await asyncio.to_thread(attempt, lab, version) == "reached"
        assert not await client.open_path(PATHS[version], 600)
        (entry,) = lab.sessions.list()
        assert entry.seconds_left <= 600
        await client.close_path(PATHS[version])
        assert lab.sessions.list() == []
        assert await asyncio.to_thread(attempt, lab, version) == names.TUNNEL
        await client.close_path(PATHS[version])

    events = follow(folder, act)
    assert not [event for event in events if isinstance(event, Alarm | Repair | PathsLost)]


@pytest.mark.usefixtures("running")
def test_the_end_of_the_box_program_closes_its_path(lab: BoxLab, folder: Path) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            box = ServiceClient(folder / "socket")
            if box.ask(OPEN) == "":
                signal.pause()
        finally:
            os._exit(1)
    poll_until(lambda: bool(lab.sessions.list()))
    assert attempt(lab) == "reached"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    poll_until(lambda: not lab.sessions.list())
    assert attempt(lab) == names.TUNNEL


def test_a_killed_service_ends_the_session_and_its_next_start_closes_the_path(
    running: subprocess.Popen[str], lab: BoxLab, folder: Path
) -> None:
    async def act(client: FirewallClient, events: list[Event]) -> None:
        assert await client.open_path(PATH, 600)
        running.kill()
        await eventually(lambda: any(isinstance(event, PathsLost) for event in events))
        assert not await client.open_path(PATH, 600)
        await client.close_path(PATH)

    follow(folder, act)
    with service(lab.box, folder) as again:
        ready(again)
        poll_until(lambda: not lab.sessions.list())
    assert attempt(lab) == names.TUNNEL


@pytest.mark.usefixtures("running")
def test_a_newer_policy_that_does_not_permit_a_session_ends_it(lab: BoxLab, folder: Path) -> None:
    async def act(client: FirewallClient, events: list[Event]) -> None:
        assert await client.open_path(PATH, 600)
        policy = (folder / "firewall.toml").read_text().replace('desktop = ["tcp/5900"]', "")
        (folder / "firewall.toml").write_text(policy)
        rap = (sys.executable, "-m", "rap", "fw", "apply", f"{folder}/firewall.toml")
        await asyncio.to_thread(lab.box.command, *rap, capture_output=True)
        await eventually(lambda: any(isinstance(event, PathsLost) for event in events))
        assert not await client.open_path(PATH, 600)
        assert all(event.in_force for event in events if isinstance(event, FirewallState))

    follow(folder, act)
    assert lab.sessions.list() == []


@pytest.mark.usefixtures("running")
def test_elements_of_other_programs_are_removed_and_a_removed_path_is_restored(
    lab: BoxLab, folder: Path
) -> None:
    def elements() -> list[str]:
        return [str(element["elem"]["val"]["concat"]) for element in lab.nft.elements("sessions4")]

    with ServiceClient(folder / "socket") as box:
        assert box.ask(OPEN) == ""
        ours = elements()
        for foreign in (
            "10.99.1.9 . enp2s0 . 10.77.1.5 . tcp . 5900",
            "10.99.1.2 . enp2s0 . 10.77.1.5 . tcp . 22",
        ):
            lab.box.command("nft", f"add element inet rap sessions4 {{ {foreign} timeout 1h }}")
            poll_until(lambda: elements() == ours)
        lab.box.command("nft", "flush set inet rap sessions4")
        poll_until(lambda: elements() == ours)
        assert attempt(lab) == "reached"


def as_nobody(folder: Path, group: int) -> str:
    """Return the service's answer to a request of another user, as a member of a group."""
    script = f"""
import os, socket
os.setgroups([]); os.setgid({group}); os.setuid({NOBODY})
s = socket.socket(socket.AF_UNIX)
s.connect({os.fspath(folder / "socket")!r})
print(s.recv(1000))
try:
    s.sendall({framed(Hello()) + framed(OPEN)!r})
    print(s.recv(1000))
except ConnectionError:
    pass
"""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.usefixtures("running")
def test_another_user_opens_nothing(lab: BoxLab, folder: Path) -> None:
    (folder / "socket").chmod(0o777)  # as a careless administrator may do
    assert f"user {NOBODY} may not observe the service" in as_nobody(folder, NOBODY)
    assert lab.sessions.list() == []


def test_root_observes_and_opens_nothing_if_the_box_program_has_a_user(lab: BoxLab, folder: Path) -> None:
    with service(lab.box, folder, "--user", "nobody", "--ready", f"{folder}/ready") as process:
        ready(process)
        poll_until((folder / "ready").exists)
        with ServiceClient(folder / "socket") as root:
            assert root.ask(OPEN) is None
    assert lab.sessions.list() == []


@pytest.mark.usefixtures("running")
def test_no_forged_request_opens_anything(lab: BoxLab, folder: Path) -> None:
    random = Random(13)
    opened = refused = ended = 0
    client = ServiceClient(folder / "socket")
    for _ in range(1000):
        problem = client.ask(forged(random))
        opened, refused = opened + (problem == ""), refused + bool(problem)
        if problem is None:
            ended += 1
            client.close()
            client = ServiceClient(folder / "socket")
    client.close()
    assert opened == 0
    assert min(refused, ended) > 100
    assert lab.sessions.list() == []
    assert attempt(lab) == names.TUNNEL
