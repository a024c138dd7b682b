"""Transitions from any table to a policy's ruleset: kept and replaced objects, and no loss of allowed packets."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest

from bench.firewall.reload import ALLOWED, FORBIDDEN, alone, replaced
from netfw.errors import FirewallError, FirewallErrorKind
from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.kernel.sessions import Sessions
from netfw.policy.policy import Service
from netfw.policy.policyfile import load_policy
from netfw.ruleset import names
from netfw.ruleset.nft_json import Json
from netfw.ruleset.sessions import Session
from tests.support.namespaces import Namespace, namespace
from tests.support.netfw.boxlab import POLICIES

CLINIC, IPSEC = (load_policy(POLICIES / f"{name}.toml") for name in ("clinic", "ipsec"))
NO_TUNNEL = replace(CLINIC, tunnel=None)
SESSION = Session(ip_address("10.99.1.2"), 1, ip_address("10.77.1.5"), Service("tcp", 5900))
RELOADS = 40


@pytest.fixture
def here() -> Iterator[Namespace]:
    with namespace() as entered:
        yield entered


@pytest.fixture
def firewall(here: Namespace) -> Iterator[Firewall]:
    nft = here.run(Nft)
    firewall = Firewall(nft)
    firewall.apply(CLINIC)
    yield firewall
    nft.close()


def handles(here: Namespace, *kinds: str) -> dict[str, int]:
    """Return the handles of the objects of these kinds; an object's handle changes when it is replaced."""
    output = here.command("nft", "-j", "list", "table", "inet", "rap", capture_output=True).stdout
    objects: list[Json] = json.loads(output)["nftables"]
    return {
        f"{kind} {body['name']}": body["handle"]
        for item in objects
        for kind, body in item.items()
        if kind in kinds
    }


@pytest.mark.kernel
@pytest.mark.parametrize(
    "change",
    [
        "add chain inet rap forward { policy accept; }",
        "add chain inet rap more { type filter hook input priority -400; policy accept; }",
        "delete chain inet rap forward",
        "add set inet rap other { type ipv4_addr; elements = { 192.0.2.1 }; }",
        "add map inet rap ways { type ifname : verdict; elements = { eth0 : goto outside }; }",
        "add counter inet rap other",
        "flush chain inet rap output\ndelete set inet rap authorized4\n"
        "add map inet rap authorized4 { type ipv4_addr : verdict; elements = { 192.0.2.1 : goto tunnel }; }",
        "flush chain inet rap input\nflush chain inet rap output\nflush chain inet rap forward\n"
        "delete set inet rap sessions4\n"
        "add set inet rap sessions4 { type ipv4_addr; elements = { 192.0.2.1 }; }",
        "flush chain inet rap input\nflush chain inet rap forward\ndelete chain inet rap tunnel",
    ],
)
def test_repairable_differences_are_repaired_in_place(
    here: Namespace, firewall: Firewall, change: str
) -> None:
    before = handles(here, "table", "counter")
    here.command("nft", "-f", "-", input=change)
    assert firewall.differences(CLINIC)
    firewall.apply(CLINIC)
    assert firewall.differences(CLINIC) == []
    assert handles(here, "table", "counter") == before


@pytest.mark.kernel
@pytest.mark.parametrize(
    "change",
    [
        "add table inet rap { flags dormant; }",
        "flush chain inet rap forward\ndelete chain inet rap forward\n"
        "add chain inet rap forward { type filter hook forward priority 5; policy drop; }",
        "flush chain inet rap output\ndelete chain inet rap output\nadd chain inet rap output",
        "add quota inet rap other { 1 mbytes }",
    ],
    ids=("dormant", "another priority", "another hook", "a quota"),
)
def test_other_differences_replace_the_table(here: Namespace, firewall: Firewall, change: str) -> None:
    before = handles(here, "table")
    here.command("nft", "-f", "-", input=change)
    firewall.apply(CLINIC)
    assert firewall.differences(CLINIC) == []
    assert handles(here, "table") != before


@pytest.mark.kernel
def test_a_change_of_policy_keeps_base_chains_and_equal_sets(here: Namespace, firewall: Firewall) -> None:
    def staying() -> dict[str, int]:
        listed = handles(here, "table", "chain", "set", "counter")
        removed = ("chain tunnel", "set sessions4", "set sessions6")
        return {name: handle for name, handle in listed.items() if name not in removed}

    before = staying()
    for policy in (NO_TUNNEL, CLINIC):
        firewall.apply(policy)
        assert firewall.differences(policy) == []
        assert staying() == before


@pytest.mark.kernel
def test_an_open_session_stays_while_the_structure_changes(here: Namespace, firewall: Firewall) -> None:
    sessions = Sessions(firewall.nft, CLINIC)
    sessions.open(SESSION, 500)
    for change in ("add set inet rap other { type ipv4_addr; }", "add table inet rap { flags dormant; }"):
        here.command("nft", change)
        firewall.apply(CLINIC)
        (entry,) = sessions.list()
        assert entry.session == SESSION
        assert 490 <= entry.seconds_left <= 500
    firewall.apply(NO_TUNNEL)
    firewall.apply(CLINIC)
    assert sessions.list() == [], "a policy without a tunnel has no sessions"


@pytest.mark.kernel
def test_counters_continue_in_place_and_after_replacement(here: Namespace, firewall: Firewall) -> None:
    counter = {"family": "inet", "table": "rap", "name": names.OUTSIDE, "packets": 7, "bytes": 420}
    deletion = [{"flush": {"table": {"family": "inet", "name": "rap"}}}, {"delete": {"counter": counter}}]
    firewall.nft.run([*deletion, {"add": {"counter": counter}}])
    for change in ("add counter inet rap other", "add table inet rap { flags dormant; }"):
        here.command("nft", change)
        firewall.apply(CLINIC)
        assert firewall.counts()[names.OUTSIDE] == (7, 420)


def test_no_allowed_packet_is_lost_and_no_forbidden_one_passes_while_the_structure_changes() -> None:
    outcome = alone(replaced, RELOADS)
    assert outcome.met[ALLOWED] > 1000
    assert outcome.met[FORBIDDEN] > 1000
    assert outcome.passed == {ALLOWED: outcome.met[ALLOWED], FORBIDDEN: 0}


def test_an_error_is_unchanged_after_pickling() -> None:
    error = FirewallError(FirewallErrorKind.UNFIT, "no such port")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.kind, str(copy)) == (error.kind, str(error)) == (FirewallErrorKind.UNFIT, "no such port")
