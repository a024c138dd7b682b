"""Every foreign construct in the table is removed; every failure of the watch is reported as not repaired."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from netfw.events import Alarm, Repair
from netfw.kernel import firewall as firewall_module
from netfw.kernel import netlink, snapshot
from netfw.kernel.firewall import Firewall
from netfw.kernel.netlink import F_ACK, F_CREATE, attribute, request
from netfw.kernel.nft import Nft
from netfw.policy.policyfile import load_policy
from netfw.watch import watch
from netfw.watch.watch import Watch
from tests.support.eventually import WAIT_SECONDS_MAX
from tests.support.namespaces import Namespace, namespace
from tests.support.netfw.boxlab import POLICIES
from tests.support.netfw.constructs import commands

pytestmark = pytest.mark.kernel

POLICY = load_policy(POLICIES / "clinic.toml")
CONSTRUCTS = commands()


@pytest.fixture(scope="module")
def firewalled() -> Iterator[tuple[Namespace, Firewall]]:
    with namespace() as here:
        nft = here.run(Nft)
        firewall = Firewall(nft)
        firewall.apply(POLICY)
        assert firewall.differences(POLICY) == []
        yield here, firewall
        nft.close()


def events_after(
    firewalled: tuple[Namespace, Firewall], change: Callable[[Namespace], Any]
) -> list[Alarm | Repair]:
    """Make a change while a watch runs; return its events up to the first Repair."""
    here, firewall = firewalled

    async def scenario() -> list[Alarm | Repair]:
        reported: asyncio.Queue[Alarm | Repair] = asyncio.Queue()
        watching = here.run(lambda: Watch(firewall, POLICY, reported.put_nowait))
        watching.start()
        try:
            change(here)  # blocks the event loop, so that all messages wait when the watch reads
            events: list[Alarm | Repair] = []
            while not events or isinstance(events[-1], Alarm):
                events.append(await asyncio.wait_for(reported.get(), WAIT_SECONDS_MAX))
            return events
        finally:
            watching.stop()

    return asyncio.run(scenario())


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_every_construct_is_detected_and_removed(firewalled: tuple[Namespace, Firewall], name: str) -> None:
    def change(here: Namespace) -> None:
        here.command("nft", "-f", "-", input=CONSTRUCTS[name], stderr=subprocess.PIPE)

    try:
        *_, repair = events_after(firewalled, change)
    except subprocess.CalledProcessError:  # not supported by this kernel or nft: nothing has changed
        assert firewalled[1].differences(POLICY) == []
        return
    assert isinstance(repair, Repair)
    assert repair.in_force, repair
    assert repair.differences
    assert firewalled[1].differences(POLICY) == []
    # a firewall that has not seen the table before has to list it by libnftables
    fresh = firewalled[0].run(Nft)
    assert Firewall(fresh).differences(POLICY) == []
    fresh.close()


def test_the_kernel_supports_most_constructs(firewalled: tuple[Namespace, Firewall]) -> None:
    """Otherwise the test of every construct would prove little."""
    here, _ = firewalled
    accepted = [
        subprocess.run(
            here.wrap("nft", "--check", "-f", "-"), input=text, text=True, capture_output=True, check=False
        ).returncode
        == 0
        for text in CONSTRUCTS.values()
    ]
    assert sum(accepted) > 0.8 * len(accepted)


SEND = """
import socket, sys
sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
sock.send(bytes.fromhex(sys.argv[1]))
sys.exit(int.from_bytes(sock.recv(65536)[16:20], "little", signed=True))
"""


def by_netlink(kind: int, *attributes: bytes) -> Callable[[Namespace], None]:
    """Return a function that sends the kernel a netlink command that nft(8) would not send, in another process."""

    def change(here: Namespace) -> None:
        begin, end = (request(kind, 0, 0, resource=10) for kind in (0x10, 0x11))
        command = request(10 << 8 | kind, F_ACK | F_CREATE, 1, b"".join(attributes))
        here.command(sys.executable, "-c", SEND, (begin + command + end).hex())

    return change


TABLE = attribute(1, b"rap\0")


@pytest.mark.parametrize(
    "change",
    [
        by_netlink(6, TABLE, attribute(2, b"input\0")),
        by_netlink(3, TABLE, attribute(3, b"\xff\xfe\0")),
        by_netlink(3, TABLE, attribute(3, b"new\nline \x1b[31m\0")),
        by_netlink(
            9,
            TABLE,
            attribute(2, b"\xc3\x28\0"),
            attribute(3, (0).to_bytes(4, "big")),
            attribute(4, (7).to_bytes(4, "big")),
            attribute(5, (4).to_bytes(4, "big")),
            attribute(10, (1).to_bytes(4, "big")),
        ),
        by_netlink(
            9,
            TABLE,
            attribute(2, b"odd\0"),
            attribute(3, (0).to_bytes(4, "big")),
            attribute(4, (0xFFFFFF).to_bytes(4, "big")),
            attribute(5, (61).to_bytes(4, "big")),
            attribute(10, (1).to_bytes(4, "big")),
        ),
    ],
    ids=["rule without statements", "chain no UTF-8", "chain of two lines", "set no UTF-8", "set of an unknown type"],
)  # fmt: skip
def test_constructs_that_nft_cannot_create_are_also_removed(
    firewalled: tuple[Namespace, Firewall], change: Callable[[Namespace], None]
) -> None:
    *_, repair = events_after(firewalled, change)
    assert isinstance(repair, Repair)
    assert repair.in_force, repair
    assert all(line.isprintable() for line in repair.differences)
    assert firewalled[1].differences(POLICY) == []


def hole(here: Namespace) -> None:
    here.command("nft", "insert rule inet rap input accept")


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("error", [ValueError("no JSON"), KeyError("expr"), TypeError("None")])
def test_a_hole_is_closed_although_the_listing_cannot_be_read(
    firewalled: tuple[Namespace, Firewall], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(Nft, "outline", raising(error))
    *_, repair = events_after(firewalled, hole)
    assert isinstance(repair, Repair)
    assert repair.in_force, repair
    assert "input" in repair.differences[0]


@pytest.mark.parametrize(
    "broken",
    [
        (snapshot, "take", RuntimeError("a bug")),
        (snapshot, "take", OSError(5, "Input/output error")),
        (firewall_module, "differing_sets", AssertionError("a bug")),
        (netlink, "messages", IndexError("short message")),
    ],
    ids=["reading", "kernel", "comparing", "receiving"],
)
def test_any_failure_in_the_watch_is_reported_as_not_repaired(
    firewalled: tuple[Namespace, Firewall],
    monkeypatch: pytest.MonkeyPatch,
    broken: tuple[Any, str, Exception],
) -> None:
    module, name, error = broken

    def change(here: Namespace) -> None:
        monkeypatch.setattr(module, name, raising(error))
        hole(here)

    *_, repair = events_after(firewalled, change)
    monkeypatch.undo()
    assert isinstance(repair, Repair)
    assert not repair.in_force
    assert str(error.args[-1]) in repair.problem
    firewalled[1].apply(POLICY)


def test_lost_messages_trigger_an_inspection(
    firewalled: tuple[Namespace, Firewall], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "BUFFER_BYTES", 1)
    elements = ", ".join(f"192.0.{n // 250}.{n % 250} . tcp . 1" for n in range(1000))

    def flood(here: Namespace) -> None:
        here.command("nft", "-f", "-", input=f"add element inet rap authorized4 {{ {elements} }}")

    alarm, *_, repair = events_after(firewalled, flood)
    assert alarm == Alarm(0, "")
    assert isinstance(repair, Repair)
    assert repair.in_force
    assert firewalled[1].differences(POLICY) == []


def test_a_table_that_another_process_owns_is_reported(firewalled: tuple[Namespace, Firewall]) -> None:
    _, firewall = firewalled
    owner: list[subprocess.Popen[str]] = []

    def take_over(here: Namespace) -> None:
        owner.append(
            subprocess.Popen(
                here.wrap("nft", "-i"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
            )
        )
        assert owner[0].stdin is not None
        owner[0].stdin.write("delete table inet rap; add table inet rap { flags owner; }\n")
        owner[0].stdin.flush()

    *_, repair = events_after(firewalled, take_over)
    assert isinstance(repair, Repair)
    assert not repair.in_force
    assert "another process owns it" in repair.problem
    owner[0].communicate("quit\n", timeout=WAIT_SECONDS_MAX)
    firewall.apply(POLICY)
    assert firewall.differences(POLICY) == []


def test_a_foreign_table_with_an_owner_does_not_prevent_reading_ours(
    firewalled: tuple[Namespace, Firewall],
) -> None:
    here, _ = firewalled
    with subprocess.Popen(
        here.wrap("nft", "-i"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdin is not None
        owner.stdin.write("add table inet firewalld { flags owner; }\nlist tables\n")
        owner.stdin.flush()
        assert owner.stdout is not None
        while "firewalld" not in owner.stdout.readline():
            pass
        fresh = Firewall(here.run(Nft))
        assert fresh.differences(POLICY) == []
        fresh.apply(POLICY)
        *_, repair = events_after(firewalled, hole)
        assert isinstance(repair, Repair)
        assert repair.in_force
        assert repair.differences == ("chain input has beyond the policy, as rule 1: accept",)
        owner.stdin.write("quit\n")


def test_programs_that_constantly_change_their_own_tables_do_not_prevent_repairs(
    firewalled: tuple[Namespace, Firewall], monkeypatch: pytest.MonkeyPatch
) -> None:
    generations = count()
    monkeypatch.setattr(snapshot, "generation", lambda _: next(generations))
    fresh = firewalled[0].run(Nft)
    assert Firewall(fresh).differences(POLICY) == []
    fresh.close()
    *_, repair = events_after(firewalled, hole)
    assert isinstance(repair, Repair)
    assert repair.in_force, repair
    assert repair.differences == ("chain input has beyond the policy, as rule 1: accept",)


def test_the_mark_of_a_policy_that_is_replaced_during_the_reading_is_read_again(
    firewalled: tuple[Namespace, Firewall], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, firewall = firewalled
    other = replace(POLICY, rejects_outside=not POLICY.rejects_outside)
    fresh = here.run(Nft)
    readings = count()

    def generation(_: Any) -> int:
        reading = next(readings)
        if reading == 1:
            Firewall(fresh).apply(other)  # after the first reading
        return min(reading, 1)

    with monkeypatch.context() as patched:
        patched.setattr(snapshot, "generation", generation)
        assert firewall.mark() == firewall.mark_of(other) != firewall.mark_of(POLICY)
    fresh.close()


def test_a_table_that_changes_during_each_reading_is_reported(
    firewalled: tuple[Namespace, Firewall], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, firewall = firewalled
    number = count()

    def changing(_: Any) -> int:
        here.command("nft", f"add element inet rap ports {{ other{next(number)} }}")
        return next(number)

    with monkeypatch.context() as patched:
        patched.setattr(snapshot, "generation", changing)
        patched.setattr(snapshot, "ATTEMPTS_MAX", 3)
        assert (
            "other programs changed the ruleset during each of 3 attempts" in firewall.differences(POLICY)[0]
        )
    firewall.apply(POLICY)
