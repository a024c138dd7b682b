"""The commands that change a table in force, executed on a model of the table: the result, and the kept objects."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from ipaddress import ip_address
from itertools import permutations
from typing import Any

import pytest

from netfw.policy.policy import Policy, Service
from netfw.policy.policyfile import load_policy
from netfw.ruleset import listing
from netfw.ruleset.render import Ruleset, render
from netfw.ruleset.sessions import KernelSessions, OpenSession, Session, deletion
from netfw.ruleset.transition import removal, transition
from tests.support.netfw.golden import POLICIES
from tests.support.netfw.table import Json, Refused, Table

CLINIC, IPSEC, LEASE = (load_policy(POLICIES / f"{name}.toml") for name in ("clinic", "ipsec", "lease"))
NO_TUNNEL = replace(CLINIC, tunnel=None)
FEWER = replace(CLINIC, ports=CLINIC.ports[:1], authorized=CLINIC.authorized[:1])
POLICIES_BY_NAME = {"clinic": CLINIC, "ipsec": IPSEC, "lease": LEASE, "no tunnel": NO_TUNNEL, "fewer": FEWER}
SESSION = Session(ip_address("10.99.1.2"), 1, ip_address("10.77.1.5"), Service("tcp", 5900))
OPEN = OpenSession(SESSION, "enp2s0", 400)
NOTHING = KernelSessions([], [])
BASE_CHAINS = ("prerouting", "input", "forward", "output")
OURS = {"family": "inet", "table": "rap"}


def table_of(policy: Policy) -> Table:
    table = Table().run(render(policy).commands())
    for number, counter in enumerate(table.objects["counter"].values()):
        counter |= {"packets": number, "bytes": 60 * number}
    return table


def change(
    table: Table, policy: Policy, sessions: KernelSessions = NOTHING, changed: Container[str] | None = None
) -> Ruleset:
    """Execute the transition of a table to a policy's ruleset; return the ruleset."""
    ruleset = render(policy)
    declarations = listing.of_ruleset(ruleset).declarations
    table.deleted.clear()
    table.flushed.clear()
    table.run(transition(ruleset, declarations, table.outline(), sessions, changed))
    return ruleset


def differences(table: Table, ruleset: Ruleset) -> list[str]:
    listed = listing.of_objects(table.listing())
    return list(listing.differences(listing.of_ruleset(ruleset), listed))


def counts(table: Table) -> dict[str, tuple[int, int]]:
    return {name: (each["packets"], each["bytes"]) for name, each in table.objects["counter"].items()}


@pytest.mark.parametrize(("one", "other"), list(permutations(POLICIES_BY_NAME, 2)))
def test_any_policy_follows_any_other_without_deleting_a_base_chain(one: str, other: str) -> None:
    table = table_of(POLICIES_BY_NAME[one])
    before = counts(table)
    ruleset = change(table, POLICIES_BY_NAME[other])
    assert differences(table, ruleset) == []
    assert not {"table rap", *(f"chain {name}" for name in BASE_CHAINS)} & set(table.deleted)
    assert counts(table) == before


def test_unchanged_objects_are_not_deleted() -> None:
    table = table_of(CLINIC)
    change(table, NO_TUNNEL)
    assert table.deleted == ["set sessions4", "set sessions6", "chain tunnel"]
    change(table, CLINIC)
    assert table.deleted == []
    large = replace(CLINIC, authorized=tuple(replace(a, networks=MANY) for a in CLINIC.authorized[:1]))
    change(table, large)
    assert table.deleted == ["set authorized4"], "the set has another size"


MANY = tuple(n for n in CLINIC.authorized[0].networks[0].supernet(new_prefix=20).subnets(new_prefix=32))


def test_sets_that_did_not_change_are_not_filled_again() -> None:
    table = table_of(CLINIC)
    ruleset = change(table, FEWER, changed={"ports", "interfaces", "authorized4", "nonesuch"})
    filled = [each for each in table.flushed if each.startswith("set ")]
    assert filled == ["set authorized4", "set interfaces", "set ports"]
    assert table.elements["ports"] == ["enp2s0"]
    assert differences(table, ruleset), "the other sets keep their elements"
    change(table, FEWER)
    assert "set services4" in table.flushed
    assert not {"set sessions4", "set sessions6"} & set(table.flushed)
    assert differences(table, ruleset) == []
    change(table, FEWER, changed=())
    assert [each for each in table.flushed if each.startswith("set ")] == []
    assert differences(table, ruleset) == []


GOTO = {"goto": {"target": "outside"}}
FOREIGN: list[Callable[[Table], Any]] = [
    lambda t: t.objects["chain"]["forward"].update(policy="accept"),
    lambda t: t.add("chain", {**OURS, "name": "more", "type": "filter", "hook": "input", "prio": -400}),
    lambda t: t.add("set", {**OURS, "name": "other", "type": "ipv4_addr", "elem": ["192.0.2.1"]}),
    lambda t: t.add("map", {**OURS, "name": "ways", "type": "ifname", "elem": [["eth0", GOTO]]}),
    lambda t: t.add("counter", {**OURS, "name": "other", "packets": 0, "bytes": 0}),
    lambda t: t.objects["set"]["authorized4"].update(type="ipv4_addr"),
    lambda t: t.rules["input"].insert(0, {**OURS, "chain": "input", "expr": [{"accept": None}]}),
    lambda t: t.elements["authorized4"].append({"concat": ["192.0.2.9", "tcp", 443]}),
]  # fmt: skip


@pytest.mark.parametrize("foreign", FOREIGN)
def test_changes_by_other_programs_are_repaired_without_replacing_the_table(
    foreign: Callable[[Table], Any],
) -> None:
    table = table_of(CLINIC)
    foreign(table)
    assert differences(table, render(CLINIC))
    ruleset = change(table, CLINIC, KernelSessions([OPEN], []))
    assert differences(table, ruleset) == []
    assert "table rap" not in table.deleted
    assert not [each for each in table.deleted if each.removeprefix("chain ") in BASE_CHAINS]


@pytest.mark.parametrize(
    "foreign",
    [
        lambda t: t.attributes.update(flags=["dormant"]),
        lambda t: t.objects["chain"]["forward"].update(prio=5),
        lambda t: t.objects["chain"]["output"].pop("hook"),
        lambda t: t.add("quota", {**OURS, "name": "other", "bytes": 1}),
    ],
    ids=["asleep", "another priority", "no hook", "a quota"],
)
def test_a_table_that_cannot_be_repaired_is_replaced_with_its_counts_and_sessions(
    foreign: Callable[[Table], Any],
) -> None:
    table = table_of(CLINIC)
    foreign(table)
    before = counts(table)
    ruleset = change(table, CLINIC, KernelSessions([OPEN], []))
    assert table.deleted == ["table rap"]
    assert differences(table, ruleset) == []
    assert counts(table) == before
    assert table.elements["sessions4"] == OPEN.element()["element"]["elem"]


def test_a_replaced_table_without_a_counter_begins_it_at_0() -> None:
    table = table_of(CLINIC)
    table.attributes["flags"] = ["dormant"]
    del table.objects["counter"]["outside"]
    change(table, CLINIC)
    assert counts(table)["outside"] == (0, 0)


def test_an_open_session_stays_unchanged_and_one_that_is_not_permitted_ends() -> None:
    table = table_of(CLINIC)
    other = OpenSession(replace(SESSION, port=2, instrument=ip_address("10.77.2.5")), "enp3s0", 300)
    table.run([{"add": OPEN.element()}, {"add": other.element()}])
    key = other.element()["element"]["elem"][0]["elem"]["val"]
    unexpected: Json = {"element": {**OURS, "name": "sessions4", "elem": [key]}}
    removed: Json = {"element": {**OURS, "name": "sessions9", "elem": [key]}}
    change(table, LEASE, KernelSessions([OPEN], [unexpected, removed]))
    assert table.elements["sessions4"] == OPEN.element()["element"]["elem"]


def test_an_open_session_is_restored_in_a_set_that_is_replaced() -> None:
    table = table_of(CLINIC)
    table.objects["set"]["sessions4"]["size"] = 7
    table.run([{"add": OPEN.element()}])
    unexpected: Json = {"element": {**OURS, "name": "sessions4", "elem": [{"concat": ["x"]}]}}
    change(table, CLINIC, KernelSessions([OPEN], [unexpected]))
    assert table.elements["sessions4"] == OPEN.element()["element"]["elem"]
    assert table.objects["set"]["sessions4"]["size"] == 64


def test_a_table_is_removed_whether_it_exists_or_not() -> None:
    for table in (table_of(CLINIC), Table()):
        table.run(removal())
        assert not table.exists


def test_the_model_refuses_commands_that_the_kernel_would_refuse() -> None:
    for command in (
        {"delete": {"set": {**OURS, "name": "ports"}}},  # in use
        {"delete": {"chain": {**OURS, "name": "input"}}},
        {"flush": {"set": {**OURS, "name": "nonesuch"}}},
        {"delete": {"element": {**OURS, "name": "ports", "elem": ["nonesuch"]}}},
        {"add": {"chain": {**OURS, "name": "input", "type": "filter", "hook": "output", "prio": 0}}},
    ):
        with pytest.raises(Refused):
            table_of(CLINIC).run([command])


def test_a_session_is_deleted_by_the_key_it_was_added_with() -> None:
    added = OPEN.element()["element"]
    deleted = deletion(SESSION, OPEN.interface)["delete"]["element"]
    assert deleted["elem"] == [added["elem"][0]["elem"]["val"]]
    assert deleted["elem"] == [{"concat": ["10.99.1.2", "enp2s0", "10.77.1.5", "tcp", 5900]}]
    assert {**deleted, "elem": []} == {**added, "elem": []}
