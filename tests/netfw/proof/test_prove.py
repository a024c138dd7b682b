"""The theorems hold for rendered policies and fail for each mutant; a kernel accepts the counterexamples."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_interface
from random import Random
from typing import Any

import pytest

from netfw.kernel.nft import Nft
from netfw.policy.policy import Authorized, Policy, PolicyPort, Service
from netfw.policy.policyfile import load_policy
from netfw.proof.counterexample import Counterexample
from netfw.proof.prove import SAME, ProofFinding, prove
from netfw.proof.symbolic import Unproven
from netfw.ruleset.render import render
from rap.__main__ import main
from tests.support.namespaces import namespace
from tests.support.netfw.boxlab import POLICIES
from tests.support.netfw.bridge_mutants import BRIDGE_MUTANTS
from tests.support.netfw.mutants import ACCEPT, EQUAL, MUTANTS, Draft, Mutant, match
from tests.support.netfw.replay import bench

pytestmark = pytest.mark.kernel

HTTPS = Service("tcp", 443)
LIVENESS = {
    "services",
    "answers in",
    "errors",
    "discovery in",
    "loopback in",
    "destinations",
    "answers out",
    "open sessions",
    "bridges in",
    "bridges out",
}
ALL = (*MUTANTS, *BRIDGE_MUTANTS)
HOLES = [mutant for mutant in ALL if mutant.theorem not in LIVENESS | {"elements"}]
OTHERS = [mutant for mutant in ALL if mutant not in HOLES]
"""Mutants that refuse permitted packets, and mutants with wrong set elements, for which a packet is no proof."""


def clinic() -> Policy:
    return load_policy(POLICIES / "clinic.toml")


def small() -> Policy:
    return Policy("enp1s0", (PolicyPort(1, "enp2s0", (ip_interface("10.77.1.1/24"),), (HTTPS,)),), ())


def ipv6_only() -> Policy:
    port = PolicyPort(1, "enp2s0", (ip_interface("fd00:77:1::1/64"),), (HTTPS,), (Service("tcp", 5900),))
    authorized = Authorized("datacenter", (IPv6Network("2001:db8:1::5/128"),), (HTTPS,))
    return replace(clinic(), ports=(port,), authorized=(authorized,))


def many_ports() -> Policy:
    def port(number: int) -> PolicyPort:
        addresses = ip_interface(f"10.77.{number}.1/24"), ip_interface(f"fd00:77:{number}::1/64")
        return PolicyPort(
            number, f"port{number}", addresses, (HTTPS, Service("udp", 123)), (Service("tcp", 5900),)
        )

    return replace(clinic(), ports=tuple(map(port, range(1, 65))))


def many_addresses() -> Policy:
    numbers = Random(7).sample(
        range(int(IPv4Network("64.0.0.0/8")[0]), int(IPv4Network("95.0.0.0/8")[0])), 10_000
    )
    return replace(
        clinic(), authorized=(Authorized("datacenter", tuple(map(IPv4Network, numbers)), (HTTPS,)),)
    )


def in_ipsec() -> Policy:
    return load_policy(POLICIES / "ipsec.toml")


def rejecting() -> Policy:
    return replace(clinic(), rejects_outside=True, accept_router_advertisements=True)


def leasing() -> Policy:
    return replace(clinic(), uses_dhcp=True)


def leasing_outside_ipsec() -> Policy:
    return replace(in_ipsec(), uses_dhcp=True, accept_router_advertisements=True)


def listed(commands: list[Any]) -> list[Any]:
    """Execute commands in a new namespace; return the kernel's listing of the table."""

    def load() -> list[Any]:
        nft = Nft()
        try:
            nft.run(commands)
            return nft.table() or []
        finally:
            nft.close()

    with namespace() as here:
        return here.run(load)


def failed(policy: Policy, commands: list[Any], only: str = "") -> list[ProofFinding]:
    return [finding for finding in prove(policy, listed(commands), only) if not finding.holds]


def edited(edit: Callable[[Draft], Any]) -> list[Any]:
    return Mutant("", "", edit).commands(clinic())


@pytest.mark.parametrize(
    "policy",
    [
        small,
        clinic,
        ipv6_only,
        many_ports,
        many_addresses,
        in_ipsec,
        rejecting,
        leasing,
        leasing_outside_ipsec,
    ],
    ids=lambda policy: policy.__name__,
)
@pytest.mark.slow("ten thousand addresses in the solver")
def test_the_theorems_hold_for_rendered_policies(policy: Callable[[], Policy]) -> None:
    assert [str(finding) for finding in failed(policy(), render(policy()).commands())] == []


@pytest.mark.parametrize("mutant", HOLES, ids=lambda mutant: mutant.name)
def test_a_hole_has_a_counterexample_that_the_kernel_accepts(mutant: Mutant) -> None:
    policy = load_policy(POLICIES / f"{mutant.policy}.toml")
    with bench(policy, mutant.commands(policy)) as here:
        (finding,) = prove(policy, here.nft.table() or [], mutant.theorem)
        assert finding.counterexample is not None
        assert here.accepts(finding.counterexample), str(finding)


@pytest.mark.parametrize("mutant", OTHERS, ids=lambda mutant: mutant.name)
def test_a_violated_guarantee_has_a_counterexample(mutant: Mutant) -> None:
    (finding,) = failed(clinic(), mutant.commands(clinic()), mutant.theorem)
    assert finding.counterexample is not None


@pytest.mark.parametrize(
    "mutant", [m for m in HOLES if m.theorem != "limited"][::6], ids=lambda mutant: mutant.name
)
def test_the_policys_ruleset_refuses_the_packet_of_a_hole(mutant: Mutant) -> None:
    policy = load_policy(POLICIES / f"{mutant.policy}.toml")
    (finding,) = failed(policy, mutant.commands(policy), mutant.theorem)
    assert finding.counterexample is not None
    with bench(policy, render(policy).commands()) as here:
        assert not here.accepts(finding.counterexample)


@pytest.mark.parametrize("mutant", EQUAL, ids=lambda mutant: mutant.name)
def test_an_equivalent_ruleset_has_no_hole(mutant: Mutant) -> None:
    findings = list(prove(clinic(), listed(mutant.commands(clinic()))))
    assert [str(finding) for finding in findings if not finding.holds] == []
    (same,) = (finding for finding in findings if finding.name == SAME)
    assert same.notes, "differences of the text are reported"


def test_one_additional_address_among_ten_thousand_has_a_counterexample() -> None:
    policy = many_addresses()
    draft = Draft(render(policy).commands())
    draft.add("authorized4", "96.1.2.3", "tcp", 443)
    (egress,) = failed(policy, draft.commands, "egress")
    assert str(egress.counterexample) == "tcp 198.51.100.77:1234 → 96.1.2.3:443, out at enp1s0, new"


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda d: d.first("input", match({"meta": {"key": "mark"}}, 7), ACCEPT), "mark"),
        (lambda d: d.first("forward", {"notrack": None}), "notrack"),
        (lambda d: d.first("input", match({"payload": {"protocol": "ip", "field": "dscp"}}, 4), ACCEPT), "dscp"),
        (lambda d: d.first("prerouting", match({"ct": {"key": "state"}}, "new"), ACCEPT), "before"),
        (lambda d: d.first("output", match({"ct": {"key": "mark"}}, 1), ACCEPT), "mark"),
        (lambda d: d.first("input", {"mangle": {"key": {"meta": {"key": "mark"}}, "value": 1}}), "mangle"),
        (lambda d: d.chain("forward").update(hook="postrouting"), "postrouting"),
    ],
    ids=["mark", "notrack", "dscp", "too early", "ct mark", "mangle", "postrouting"],
)  # fmt: skip
def test_an_unknown_expression_is_not_skipped(edit: Callable[[Draft], Any], named: str) -> None:
    with pytest.raises(Unproven, match=f"the listing contains .*{named}.*, which the proof does not support"):
        list(prove(clinic(), listed(edited(edit))))


def test_a_dormant_table_proves_nothing() -> None:
    table = {"table": {"family": "inet", "name": "rap", "handle": 1, "flags": ["dormant"]}}
    objects = [item for item in listed(render(clinic()).commands()) if "table" not in item]
    with pytest.raises(Unproven, match="dormant"):
        list(prove(clinic(), [table, *objects]))


def test_a_counterexample_describes_its_packet() -> None:
    commands = edited(lambda d: d.verdict("outside", "drop", becomes=ACCEPT))
    (finding,) = failed(clinic(), commands, "outside")
    packet = finding.counterexample
    assert isinstance(packet, Counterexample)
    assert str(packet) == "tcp 198.51.100.77:1234 → 198.51.100.88:443, in at enp1s0, new"
    assert (packet.packet.iif, packet.packet.l4proto) == ("enp1s0", 6)
    assert finding.summary()["counterexample"]["source"] == "198.51.100.77"


def test_the_command_reads_a_saved_listing(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    policy, listing = str(POLICIES / "clinic.toml"), tmp_path / "listing.json"
    listing.write_text(json.dumps({"nftables": listed(render(clinic()).commands())}))
    assert main(["fw", "prove", policy, "--listing", str(listing), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["holds"] is True
    listing.write_text(json.dumps({"nftables": listed(edited(lambda d: d.first("input", ACCEPT)))}))
    assert main(["fw", "prove", policy, "--listing", str(listing)]) == 1
    assert "✗ outside" in capsys.readouterr().out
    listing.write_text("table inet rap {}")
    assert main(["fw", "prove", policy, "--listing", str(listing)]) == 2
    assert "create it with `nft -j list table inet rap`" in capsys.readouterr().err
