"""Attacks by programs on an instrument are limited by the box, end with their fault, and delay no other port."""

from __future__ import annotations

from collections import Counter

import pytest

from agents.box.intake.collector import port_limits
from sim.verdict.ledger import NEVER
from sim.worlds.virtual.world import VirtualWorld
from tests.support.sim.fault_labs import combined_lab, event, program_errors

ATTACKS = {
    "instrument-hoards-connections": "connections-over-limit",
    "instrument-stalls-handshakes": "connections-over-limit",
    "instrument-drips-requests": "connections-over-limit",
    "instrument-ignores-answers": "connections-over-limit",
    "instrument-reconnects": "",
    "instrument-sends-oversize": "reports-refused",
    "instrument-sends-garbage": "reports-refused",
    "instrument-floods": "reports-too-many",
}
"""The audit event of each kind of attack; empty if the instrument itself ends its connections."""
LATENCY_NS_MAX = 35 * 10**9
"""Routine reports may wait 30 s for a batch, and 5 s for their delivery."""


def connections(world: VirtualWorld) -> list[int]:
    """Count the TCP connections of the instruments at ports 1 and 2 with the box."""
    incarnation = world.box.host.incarnation
    assert incarnation is not None
    return [len(incarnation.flows(world.link(f"instrument:{port}"))) for port in (1, 2)]


@pytest.mark.parametrize("kind", ATTACKS)
@pytest.mark.slow("simulates every frame of a flood")
def test_an_attack_affects_its_own_port_only_and_ends_with_its_fault(kind: str) -> None:
    parameters = "rate = 1000" if kind == "instrument-floods" else ""
    lab = combined_lab(event(kind, 30, 150, parameters), duration="8min", proxy="")
    with VirtualWorld(lab) as world:
        peak = 0
        for second in range(30, 180):
            world.run_until(second * 10**9)
            attacked, other = connections(world)
            assert attacked <= port_limits(1).connections_max
            assert other == 1
            peak = max(peak, attacked)
        if ATTACKS[kind] == "connections-over-limit":
            assert peak == port_limits(1).connections_max
        world.run_until(480 * 10**9)
        assert connections(world) == [1, 1]
        result = world.finish()
        entries = [entry for entry in world.ledger if entry.serial == "HEMA-0002"]
    assert program_errors(result) == 0 and result.verdict == "pass", result.failures
    audited = Counter(note.text.partition(",")[0] for note in result.notes)
    assert not ATTACKS[kind] or audited[ATTACKS[kind]] >= 1, audited
    stored = [entry for entry in entries if entry.stored_ns != NEVER]
    assert len(stored) > 40
    assert max(entry.stored_ns - entry.made_ns for entry in stored) < LATENCY_NS_MAX
