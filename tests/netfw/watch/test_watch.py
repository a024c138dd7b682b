"""Changes of the watched firewall by other programs are reported and reverted."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from select import select
from socket import socket
from typing import Any

import pytest

from netfw.events import Alarm, Repair
from netfw.kernel import netlink
from netfw.kernel.firewall import LISTED_MAX, Differences, Firewall
from netfw.kernel.nft import Nft
from netfw.kernel.sessions import Sessions
from netfw.policy.policy import Policy, Service
from netfw.policy.policyfile import load_policy
from netfw.ruleset.sessions import Session
from netfw.watch.watch import Watch
from tests.support.eventually import WAIT_SECONDS_MAX
from tests.support.namespaces import Namespace, namespace
from tests.support.netfw.boxlab import POLICIES
from tests.support.paths import ROOT

pytestmark = pytest.mark.kernel

POLICY = load_policy(POLICIES / "clinic.toml")
MINE = Session(ip_address("10.99.1.2"), 1, ip_address("10.77.1.5"), Service("tcp", 5900))
OTHERS = Session(ip_address("10.99.1.3"), 1, ip_address("10.77.1.5"), Service("tcp", 5900))


@dataclass
class WatchedNamespace:
    """A namespace with the policy in force, and the events that a watch reports there."""

    namespace: Namespace
    firewall: Firewall
    reported: asyncio.Queue[Alarm | Repair] = field(default_factory=asyncio.Queue)

    def watch(self, sessions: dict[Session, int] | None = None) -> Watch:
        owned = None if sessions is None else (lambda: sessions)
        return self.namespace.run(lambda: Watch(self.firewall, POLICY, self.reported.put_nowait, owned))

    async def nft(self, *arguments: str) -> None:
        """Run nft(8), in a separate process."""
        await asyncio.to_thread(self.namespace.command, "nft", *arguments)

    async def next(self) -> Alarm | Repair:
        return await asyncio.wait_for(self.reported.get(), WAIT_SECONDS_MAX)


@pytest.fixture
def watched() -> Iterator[WatchedNamespace]:
    with namespace() as here:
        nft = here.run(Nft)
        Firewall(nft).apply(POLICY)
        yield WatchedNamespace(here, Firewall(nft))
        nft.close()


@pytest.mark.parametrize(
    "change",
    [
        "flush ruleset",
        "delete table inet rap",
        "flush chain inet rap input",
        "insert rule inet rap input accept",
        "add rule inet rap output accept",
        "add element inet rap authorized4 { 198.51.100.66 . tcp . 22 }",
        "delete element inet rap services4 { enp2s0 . 10.77.1.1 . tcp . 443 }",
        "add chain inet rap forward { policy accept; }",
        "add chain inet rap more { type filter hook input priority -400; policy accept; }",
        "add table inet rap { flags dormant; }",
        "add set inet rap other { type ipv4_addr; }",
        "delete element inet rap inside4 { 127.0.0.0/8 }",
    ],
)
def test_a_change_is_reported_and_reverted(watched: WatchedNamespace, change: str) -> None:
    async def scenario() -> None:
        watch = watched.watch()
        watch.start()
        await watched.nft(change)
        alarm, repair = await watched.next(), await watched.next()
        assert isinstance(alarm, Alarm)
        assert alarm.program == "nft"
        assert isinstance(repair, Repair)
        assert repair.differences
        assert repair.in_force
        assert watched.firewall.differences(POLICY) == []
        watch.stop()

    asyncio.run(scenario())


def test_foreign_tables_and_changes_by_this_process_are_ignored(watched: WatchedNamespace) -> None:
    async def scenario() -> None:
        watch = watched.watch()
        watch.start()
        await watched.nft("add table inet firewalld")
        watched.firewall.apply(POLICY)
        await watched.nft("delete table inet firewalld")
        await watched.nft("add table ip rap")  # a table of another family is another table
        await watched.nft("insert rule inet rap input accept")
        assert isinstance(alarm := await watched.next(), Alarm)
        assert alarm.program == "nft"
        assert len((await watched.next()).differences) == 1  # type: ignore[union-attr]
        assert watched.reported.empty()
        watch.stop()

    asyncio.run(scenario())


def test_changes_by_any_thread_of_this_process_are_recognized(watched: WatchedNamespace) -> None:
    async def scenario() -> None:
        watch = watched.watch()
        watch.start()
        await in_a_thread_that_ends(lambda: watched.firewall.apply(POLICY))
        await watched.nft("insert rule inet rap input accept")
        assert isinstance(alarm := await watched.next(), Alarm)
        assert alarm.program == "nft"
        watch.stop()

    asyncio.run(scenario())


IN_A_CONTAINER = """
import asyncio, sys
from pathlib import Path
from select import select
from socket import socket
from typing import Any
from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.policy.policyfile import load_policy
from netfw.watch.watch import Watch

async def main():
    policy, firewall, events = load_policy(Path(sys.argv[1])), Firewall(Nft()), asyncio.Queue()
    firewall.apply(policy)
    watch = Watch(firewall, policy, events.put_nowait)
    watch.start()
    firewall.apply(policy)
    foreign_change = ("nft", "insert", "rule", "inet", "rap", "input", "accept")
    await (await asyncio.create_subprocess_exec(*foreign_change)).wait()
    print((await events.get()).program, len((await events.get()).differences), events.qsize())

asyncio.run(main())
"""


def test_changes_by_this_process_are_recognized_in_a_container(watched: WatchedNamespace) -> None:
    command = (
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        sys.executable,
        "-c",
        IN_A_CONTAINER,
    )
    done = watched.namespace.command(
        *command, str(POLICIES / "clinic.toml"), stdout=subprocess.PIPE, timeout=WAIT_SECONDS_MAX, cwd=ROOT
    )
    assert done.stdout.split() == ["nft", "1", "0"]


def test_a_netlink_port_is_recognized_only_in_its_own_network_namespace(watched: WatchedNamespace) -> None:
    """Process ids cannot be used: in a container they differ from those that the kernel reports."""
    with netlink.netfilter_socket() as elsewhere, watched.namespace.run(netlink.netfilter_socket) as here:
        port = bound(here)
        bound(elsewhere, port)
        assert netlink.is_ours(port, here)
        assert netlink.is_ours(port, elsewhere)
        here.close()
        again = watched.namespace.run(netlink.netfilter_socket)
        assert not netlink.is_ours(port, again)
        again.close()


def bound(sock: socket, port: int = 0) -> int:
    sock.bind((port, 0))
    return int(sock.getsockname()[0])


async def in_a_thread_that_ends(act: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as thread:
        await asyncio.wrap_future(thread.submit(act))


def test_a_change_during_a_repair_is_not_missed(watched: WatchedNamespace) -> None:
    async def scenario() -> None:
        watch = watched.watch()
        watch.start()
        changes = [watched.nft(f"add element inet rap ports {{ more{n} }}") for n in range(20)]
        await asyncio.gather(*changes)
        await watched.nft("add rule inet rap output accept")
        while not (
            isinstance(reported := await watched.next(), Repair) and "output" in str(reported.differences)
        ):
            pass
        assert watched.firewall.differences(POLICY) == []
        watch.stop()

    asyncio.run(scenario())


def during_the_first_repair(
    firewall: Firewall, monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]
) -> None:
    """Call `change` once, after the last transaction of the first repair and before the table is read again."""
    repair, pending = firewall.repair, [change]

    def repaired_and_changed(*arguments: Any) -> None:
        repair(*arguments)
        if pending:
            pending.pop()()

    monkeypatch.setattr(firewall, "repair", repaired_and_changed)


def test_a_change_that_the_kernel_did_not_report_during_a_repair_is_also_repaired(
    watched: WatchedNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        watch = watched.watch()
        watch.start()
        change = ("nft", "insert rule inet rap input accept")
        during_the_first_repair(watched.firewall, monkeypatch, lambda: watched.namespace.command(*change))
        await watched.nft("flush chain inet rap forward")
        assert (await watched.next()).pid  # type: ignore[union-attr]
        assert await watched.next() == Alarm(0, "")
        assert (await watched.next()).in_force  # type: ignore[union-attr]
        assert watched.firewall.differences(POLICY) == []
        await watched.nft("flush chain inet rap forward")
        alarm = await watched.next()
        assert isinstance(alarm, Alarm)
        assert alarm.pid, "after a repair the kernel reports changes again"
        watch.stop()

    asyncio.run(scenario())


def test_a_policy_put_in_force_during_a_repair_is_not_overwritten(
    watched: WatchedNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(POLICY, rejects_outside=True)
    another_program = watched.namespace.run(Nft)

    async def scenario() -> None:
        watch = watched.watch()
        watch.start()
        during_the_first_repair(watched.firewall, monkeypatch, lambda: Firewall(another_program).apply(other))
        await watched.nft("flush chain inet rap forward")
        reported = [await watched.next() for _ in range(3)]
        assert [type(each) for each in reported] == [Alarm, Alarm, Repair]
        assert "another policy was put in force" in reported[2].problem  # type: ignore[union-attr]
        assert watched.firewall.differences(other) == []
        watch.stop()

    asyncio.run(scenario())
    another_program.close()


def test_the_kernel_does_not_report_elements_that_the_watch_adds(watched: WatchedNamespace) -> None:
    hosts = tuple(ip_network(int(ip_address("50.0.0.0")) + 2 * n) for n in range(LISTED_MAX + 1))
    (first, *others) = POLICY.authorized
    policy = replace(POLICY, authorized=(replace(first, networks=hosts), *others))

    async def scenario() -> None:
        watched.firewall.apply(policy)
        watch = watched.watch()
        watch.policy = policy
        watch.start()
        waiting: list[bool] = []

        def on_event(event: Alarm | Repair) -> None:
            if isinstance(event, Repair):
                waiting.append(bool(select([watch.netlink_socket], [], [], 0)[0]))
            watched.reported.put_nowait(event)

        watch.on_event = on_event
        await watched.nft("delete table inet rap")
        assert isinstance(await watched.next(), Alarm)
        assert (await watched.next()).in_force  # type: ignore[union-attr]
        assert waiting == [False]
        watch.stop()

    asyncio.run(scenario())


def test_garbage_collection_does_not_run_between_a_change_and_its_repair(
    watched: WatchedNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    collecting: list[bool] = []
    compare = watched.firewall.compare

    def recording(policy: Policy) -> Differences:
        collecting.append(gc.isenabled())
        return compare(policy)

    monkeypatch.setattr(watched.firewall, "compare", recording)

    async def scenario() -> None:
        watch = watched.watch()
        watch.start()
        await watched.nft("flush chain inet rap forward")
        assert isinstance(await watched.next(), Alarm)
        assert (await watched.next()).in_force  # type: ignore[union-attr]
        assert collecting
        assert not any(collecting)
        assert gc.isenabled()
        watch.stop()

    asyncio.run(scenario())


def test_a_wrong_ruleset_at_the_start_is_repaired(watched: WatchedNamespace) -> None:
    async def scenario() -> None:
        await watched.nft("flush chain inet rap forward")
        watch = watched.watch()
        watch.start()
        repair = await watched.next()
        assert isinstance(repair, Repair)
        assert repair.in_force
        watch.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        ("flush set inet rap authorized4", ("set authorized4 was changed",)),
        (
            "add element inet rap authorized4 { 198.51.100.66 . tcp . 22 }; "
            "delete element inet rap authorized4 { 50.0.0.0 . tcp . 443, 50.0.0.2 . tcp . 443 }",
            ("set authorized4 was changed",),
        ),
        ("flush chain inet rap forward", None),
        ("delete table inet rap", None),
    ],
)
def test_a_set_too_large_to_be_read_each_time_is_refilled(
    watched: WatchedNamespace, change: str, reported: tuple[str, ...] | None
) -> None:
    hosts = tuple(ip_network(int(ip_address("50.0.0.0")) + 2 * n) for n in range(LISTED_MAX + 1))
    (first, *others) = POLICY.authorized
    policy = replace(POLICY, authorized=(replace(first, networks=hosts), *others))

    async def scenario() -> None:
        watched.firewall.apply(policy)
        watch = watched.watch()
        watch.policy = policy
        watch.start()
        await watched.nft(change)
        assert isinstance(await watched.next(), Alarm)
        repair = await watched.next()
        assert isinstance(repair, Repair)
        assert repair.in_force
        assert reported is None or repair.differences == reported
        assert watched.firewall.differences(policy) == []
        watch.stop()

    asyncio.run(scenario())


def test_a_message_among_thousands_of_similar_ones_is_not_missed(watched: WatchedNamespace) -> None:
    hosts = tuple(ip_network(int(ip_address("50.0.0.0")) + 2 * n) for n in range(LISTED_MAX + 1))
    (first, *others) = POLICY.authorized
    policy = replace(POLICY, authorized=(replace(first, networks=hosts), *others))
    changes = ("flush set inet rap authorized4", "add element inet rap ports { more }")

    async def scenario() -> None:
        watched.firewall.apply(policy)
        watch = watched.watch()
        watch.policy = policy
        watch.start()
        for order in (changes, changes[::-1]):
            await watched.nft("; ".join([*order, *order[::-1]]))
            assert isinstance(await watched.next(), Alarm)
            repair = await watched.next()
            assert isinstance(repair, Repair)
            assert repair.in_force
            assert repair.differences == (
                "set ports has beyond the policy more",
                "set authorized4 was changed",
            )
        assert watched.firewall.differences(policy) == []
        watch.stop()

    asyncio.run(scenario())


def test_a_policy_put_in_force_on_purpose_is_not_reverted(watched: WatchedNamespace) -> None:
    other = replace(POLICY, rejects_outside=True)

    async def scenario() -> None:
        watch = watched.watch()
        watch.start()
        watched.firewall.apply(other)
        await watched.nft("insert rule inet rap input accept")
        assert isinstance(await watched.next(), Alarm)
        repair = await watched.next()
        assert isinstance(repair, Repair)
        assert not repair.in_force
        assert "another policy was put in force" in repair.problem
        assert len(watched.firewall.differences(other)) == 1, "neither change was reverted"
        # without a mark, the table belongs to no policy
        await watched.nft("flush chain inet rap prerouting")
        assert isinstance(await watched.next(), Alarm)
        assert (await watched.next()).in_force  # type: ignore[union-attr]
        assert watched.firewall.differences(POLICY) == []
        watch.stop()

    asyncio.run(scenario())


def test_sessions_of_the_owner_stay_and_others_are_removed(watched: WatchedNamespace) -> None:
    async def scenario() -> None:
        sessions = Sessions(watched.firewall.nft, POLICY)
        sessions.open(MINE, 500)
        watch = watched.namespace.run(lambda: watched.watch({MINE: 400}))
        watch.start()
        await watched.nft(
            "add element inet rap sessions4 { 10.99.1.3 . enp2s0 . 10.77.1.5 . tcp . 5900 timeout 1h }"
        )
        assert isinstance(await watched.next(), Alarm)
        repair = await watched.next()
        assert isinstance(repair, Repair)
        assert "10.99.1.3" in repair.differences[0]
        assert [entry.session for entry in sessions.list()] == [MINE]
        await watched.nft("flush ruleset")
        assert isinstance(await watched.next(), Alarm)
        assert isinstance(await watched.next(), Repair)
        (entry,) = sessions.list()
        assert entry.session == MINE
        assert entry.seconds_left <= 400
        watch.stop()

    asyncio.run(scenario())


def test_without_an_owner_sessions_are_not_removed(watched: WatchedNamespace) -> None:
    async def scenario() -> None:
        watch = watched.watch()
        watch.start()
        await watched.nft(
            "add element inet rap sessions4 { 10.99.1.3 . enp2s0 . 10.77.1.5 . tcp . 5900 timeout 1h }"
        )
        await watched.nft("flush chain inet rap output")
        assert isinstance(await watched.next(), Alarm)
        assert "output" in (await watched.next()).differences[0]  # type: ignore[union-attr]
        assert [entry.session for entry in Sessions(watched.firewall.nft, POLICY).list()] == [OTHERS]
        assert watched.reported.empty()
        watch.stop()

    asyncio.run(scenario())
