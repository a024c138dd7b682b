"""Packets from every zone to every other one, as in `make bench-kernel`, but with some hundred ports instead of all.

The tests need root, and work in separate network namespaces.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.firewall.sweep import allowed, probes, sweep
from bench.firewall.testbed import POLICY
from netfw.policy.policy import Service
from netfw.policy.policyfile import load_policy
from netfw.ruleset.render import render

pytestmark = pytest.mark.kernel

CLINIC = load_policy(POLICY)
PORTS = sorted(
    {*range(0, 1 << 16, 653), 1, 22, 80, 122, 123, 124, 442, 443, 444, 2575, 5899, 5900, 5901, 65535}
)
FEW = [22, 123, 443, 2575, 5900]


def holes(ruleset: list[Any]) -> set[tuple[str, str, str, int, bool, bool]]:
    """Return the deviations of a ruleset from the policy: source, target, protocol, port, session, passed."""
    return {
        (m.probe.source.name, m.probe.target.name, m.probe.protocol, m.port, m.probe.session, m.passed)
        for m in sweep(CLINIC, ruleset, FEW).mismatches
    }


def test_every_zone_reaches_exactly_the_targets_that_the_policy_permits() -> None:
    outcome = sweep(CLINIC, ports=PORTS)
    assert outcome.mismatches == []
    assert outcome.packets == outcome.probes * len(PORTS)
    every = list(probes(CLINIC))
    assert (outcome.probes, outcome.passed) == (
        len(every),
        sum(len(allowed(CLINIC, probe)) for probe in every),
    )


def test_the_expected_reachability_is_that_of_the_policy_file() -> None:
    paths = {
        (p.source.name, p.target.name, p.session, f"{p.protocol}/{port}")
        for p in probes(CLINIC)
        for port in allowed(CLINIC, p)
    }
    always = {
        ("instrument 1", "box at port 1", "tcp/443"),
        ("instrument 2", "box at port 2", "tcp/443"),
        ("instrument 2", "box at port 2", "tcp/2575"),
        ("instrument 2", "box at port 2", "udp/123"),
        ("box at its uplink", "data center", "tcp/443"),
        ("box at its uplink", "data center", "udp/123"),
    }
    assert paths == {(*path[:2], is_open, path[2]) for path in always for is_open in (False, True)} | {
        ("staff", "instrument 1", True, "tcp/5900")
    }


def test_an_additional_and_a_missing_service_are_detected() -> None:
    one, two = CLINIC.ports
    other = replace(CLINIC, ports=(replace(one, services=(Service("tcp", 22),)), two))
    path = ("instrument 1", "box at port 1", "tcp")
    assert holes(render(other).commands()) == {
        (*path, port, is_open, port == 22) for port in (22, 443) for is_open in (False, True)
    }


def test_an_additional_rule_in_the_forward_chain_is_detected() -> None:
    ruleset = render(CLINIC).commands()
    hole = [
        {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "enp2s0"}},
        {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 5900}},
        {"accept": None},
    ]
    first = next(i for i, c in enumerate(ruleset) if c["add"].get("rule", {}).get("chain") == "forward")
    ruleset.insert(
        first, {"add": {"rule": {"family": "inet", "table": "rap", "chain": "forward", "expr": hole}}}
    )
    assert {(source, protocol, port, passed) for source, _, protocol, port, _, passed in holes(ruleset)} == {
        ("instrument 1", "udp", 5900, True)
    }
