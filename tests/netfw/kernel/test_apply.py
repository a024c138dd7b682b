"""A policy is applied completely or not at all, without a moment of another ruleset; other tables are unchanged."""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.kernel.firewall import Firewall
from netfw.kernel.netlink import netfilter_socket
from netfw.kernel.nft import Nft
from netfw.kernel.sessions import Sessions
from netfw.kernel.trial import Trial
from netfw.policy.policy import AUTHORIZED_MAX, Authorized, Service
from netfw.policy.policyfile import load_policy
from netfw.ruleset import names
from netfw.ruleset.nft_json import Json
from netfw.ruleset.render import render
from netfw.ruleset.sessions import Session
from tests.support.eventually import WAIT_SECONDS_MAX
from tests.support.namespaces import Namespace, namespace
from tests.support.netfw.boxlab import INSTRUMENT, POLICIES, box_lab

pytestmark = pytest.mark.kernel

CLINIC, IPSEC = (load_policy(POLICIES / f"{name}.toml") for name in ("clinic", "ipsec"))
NARROW = replace(CLINIC, authorized=())
SESSION = Session(ip_address("10.99.1.2"), 1, ip_address("10.77.1.5"), Service("tcp", 5900))


@pytest.fixture
def here() -> Iterator[Namespace]:
    with namespace() as entered:
        yield entered


@pytest.fixture
def nft(here: Namespace) -> Iterator[Nft]:
    context = here.run(Nft)
    yield context
    context.close()


@pytest.fixture
def firewall(nft: Nft) -> Firewall:
    return Firewall(nft)


def listing(here: Namespace) -> str:
    return str(here.command("nft", "--stateless", "list", "ruleset", capture_output=True).stdout)


@pytest.mark.parametrize("before", [None, CLINIC, NARROW, IPSEC], ids=("none", "same", "narrower", "another"))
def test_a_policy_replaces_whatever_was_in_force(firewall: Firewall, before: object) -> None:
    if before is not None:
        firewall.apply(before)  # type: ignore[arg-type]
        assert firewall.differences(CLINIC) == [] or before is not CLINIC
    firewall.apply(CLINIC)
    assert firewall.differences(CLINIC) == []


def test_other_tables_are_not_touched(here: Namespace, firewall: Firewall) -> None:
    here.command(
        "nft", "add table inet firewalld; add chain inet firewalld x; add rule inet firewalld x drop"
    )
    before = listing(here)
    firewall.apply(CLINIC)
    firewall.apply(IPSEC)
    firewall.remove()
    assert listing(here) == before


def test_a_ruleset_that_the_kernel_refuses_changes_nothing(
    here: Namespace, nft: Nft, firewall: Firewall
) -> None:
    firewall.apply(CLINIC)
    before = listing(here)
    rule = {"family": "inet", "table": "rap", "chain": "no-such-chain", "expr": [{"accept": None}]}
    with pytest.raises(FirewallError, match="No such file") as refused:
        nft.run([{"flush": {"table": {"family": "inet", "name": "rap"}}}, {"add": {"rule": rule}}])
    assert refused.value.kind is FirewallErrorKind.REFUSED
    assert listing(here) == before


def test_a_dry_run_changes_nothing(here: Namespace, nft: Nft) -> None:
    for policy in (CLINIC, IPSEC, CLINIC):
        nft.check(render(policy).commands())
    assert listing(here) == ""


def test_counters_continue_when_the_table_is_replaced(nft: Nft, firewall: Firewall) -> None:
    firewall.apply(CLINIC)
    counter = {"family": "inet", "table": "rap", "name": names.OUTSIDE, "packets": 7, "bytes": 420}
    deletion = [{"flush": {"table": {"family": "inet", "name": "rap"}}}, {"delete": {"counter": counter}}]
    nft.run([*deletion, {"add": {"counter": counter}}])
    for policy in (CLINIC, IPSEC):
        firewall.apply(policy)
        assert firewall.counts()[names.OUTSIDE] == (7, 420)


def test_the_error_without_the_library_names_the_package() -> None:
    with pytest.raises(FirewallError, match=r"libnftables1 .* or nftables") as error:
        Nft("libnftables.so.99")
    assert error.value.kind is FirewallErrorKind.LACKING


def test_missing_privileges_are_reported(here: Namespace) -> None:
    """A child process without privileges applies the policy."""
    child = os.fork()
    if child == 0:
        try:
            here.enter()
            os.setresuid(65534, 65534, 65534)
            Firewall(Nft()).apply(CLINIC)
        except FirewallError as error:
            os._exit(0 if error.kind is FirewallErrorKind.DENIED else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert listing(here) == ""


def test_overlapping_authorized_networks_are_accepted(firewall: Firewall) -> None:
    wide = tuple(map(ip_network, ("203.0.0.0/8", "203.0.113.0/24", "203.0.113.5", "204.0.0.0/8")))
    entries = tuple(replace(entry, networks=wide) for entry in CLINIC.authorized)
    policy = replace(CLINIC, authorized=(*entries, *entries))
    firewall.apply(policy)
    assert firewall.differences(policy) == []


def flood(wire: socket.socket, frame: bytes, until: Callable[[], bool]) -> int:
    sent = 0
    while not until():
        for _ in range(64):
            wire.send(frame)
        sent += 64
    return sent


def test_no_forbidden_packet_passes_while_policies_change() -> None:
    """An instrument floods another one through the box, while the table is refilled and replaced."""
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    with box_lab() as lab:
        packet = IP(src=INSTRUMENT[1][4], dst=INSTRUMENT[2][4]) / UDP(dport=9)
        frame = bytes(Ether(src="02:00:00:00:00:99", dst="02:00:00:00:00:01") / packet)
        changes = iter([lab.policy, NARROW, WITHOUT_TUNNEL, lab.policy, WITHOUT_TUNNEL, NARROW] * 10)

        def changed() -> bool:
            policy = next(changes, None)
            if policy is not None:
                lab.firewall.apply(policy)
            return policy is None

        with (
            closing(lab.instrument[1].socket(socket.AF_PACKET, socket.SOCK_RAW)) as wire,
            closing(lab.instrument[2].socket(socket.AF_INET, socket.SOCK_DGRAM)) as victim,
        ):
            victim.bind((INSTRUMENT[2][4], 9))
            wire.bind(("eth0", 0))
            flooder = os.fork()
            if flooder == 0:
                flood(wire, frame, lambda: os.getppid() == 1)
                os._exit(0)
            try:
                while not changed():
                    pass
            finally:
                os.kill(flooder, 9)
                os.waitpid(flooder, 0)
            assert select.select([victim], [], [], 0)[0] == []
            assert lab.packets(names.CROSSING) > 1000


WITHOUT_TUNNEL = replace(CLINIC, tunnel=None)
"""A policy whose table has another structure, so that the table is replaced and not refilled."""


def test_a_confirmed_trial_stays_in_force(nft: Nft, here: Namespace, firewall: Firewall) -> None:
    trial = here.run(lambda: Trial(nft, CLINIC, 60))
    assert trial.keep()
    assert firewall.differences(CLINIC) == []


@pytest.mark.parametrize("before", [None, IPSEC], ids=("nothing", "another policy"))
def test_an_unconfirmed_trial_is_reverted_exactly(
    nft: Nft, here: Namespace, firewall: Firewall, before: object
) -> None:
    if before is not None:
        firewall.apply(before)  # type: ignore[arg-type]
    listed = listing(here)
    assert here.run(lambda: Trial(nft, CLINIC, 60)).revert()
    assert listing(here) == listed


def test_a_trial_is_reverted_at_its_time_limit(nft: Nft, here: Namespace) -> None:
    trial = here.run(lambda: Trial(nft, CLINIC, 0.05))
    assert select.select([trial], [], [], WAIT_SECONDS_MAX)[0]
    assert listing(here) == ""
    assert not trial.keep(), "the trial has ended"


def test_a_reverted_trial_does_not_reopen_a_session_that_ended(
    nft: Nft, here: Namespace, firewall: Firewall
) -> None:
    firewall.apply(CLINIC)
    sessions, other = Sessions(nft, CLINIC), replace(SESSION, staff=ip_address("10.99.1.9"))
    sessions.open(SESSION, 60)
    sessions.open(other, 60)
    trial = here.run(lambda: Trial(nft, NARROW, 60))
    here.run(lambda: sessions.close(SESSION))
    assert trial.revert()
    assert firewall.differences(CLINIC) == []
    assert [entry.session for entry in sessions.list()] == [other]


def test_a_trial_that_cannot_begin_changes_nothing(nft: Nft, here: Namespace, firewall: Firewall) -> None:
    firewall.apply(CLINIC)
    before = listing(here)
    too_long = replace(CLINIC, uplink="a-name-of-more-than-15-letters")
    with pytest.raises(FirewallError):
        here.run(lambda: Trial(nft, too_long, 60))
    assert listing(here) == before


def test_the_rendered_commands_are_valid_input_for_nft(here: Namespace) -> None:
    commands: Json = json.loads(json.dumps(render(CLINIC).commands()))
    here.command("nft", "-j", "-f", "-", input=json.dumps({"nftables": commands}))
    firewall = Firewall(here.run(Nft))
    assert firewall.differences(CLINIC) == []


@pytest.mark.slow("ten thousand addresses")
def test_the_maximum_number_of_addresses_is_applied_read_and_repaired(here: Namespace) -> None:
    per_version = AUTHORIZED_MAX // 2
    hosts = tuple(ip_network(int(ip_address("64.0.0.0")) + 2 * n) for n in range(per_version))
    hosts += tuple(ip_network(int(ip_address("2001:db8:64::")) + 2 * n) for n in range(per_version))
    policy = replace(CLINIC, authorized=(Authorized("proxy", hosts, (Service("tcp", 3128),)),))
    nft = here.run(Nft)
    firewall = Firewall(nft)
    firewall.apply(policy)
    assert firewall.differences(policy) == []
    here.command("nft", "flush set inet rap authorized6; insert rule inet rap output accept")
    with here.run(netfilter_socket) as sock:
        firewall.repair(policy, firewall.compare(policy), sock)
    assert firewall.differences(policy) == []
    nft.close()
