"""Hostile programs on an instrument: each attacks as it says, ends with its fault, and does not delay other ports."""

from __future__ import annotations

from collections import Counter

import pytest

from agents.box.intake.collector import port_limits
from sim.verdict.ledger import NEVER
from sim.worlds.virtual.world import VirtualWorld
from tests.sim.faults.test_faults_compose import errors, event, make_lab

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
"""By kind of fault: what the box notes of it; nothing of connections that end by themselves."""
LATENCY_NS_MAX = 35 * 10**9
"""The box lets routine reports wait for others for up to 30 s."""


def connections(world: VirtualWorld) -> list[int]:
    """Of each port, as the box counts them."""
    box = world.box._box
    assert box is not None
    return [server.connections for _, server in sorted(box._servers.items())]


@pytest.mark.parametrize("kind", ATTACKS)
def test_an_attack_is_confined_to_its_port_and_ends_with_its_fault(kind: str) -> None:
    parameters = "rate = 1000" if kind == "instrument-floods" else ""
    lab = make_lab(event(kind, 30, 150, parameters), duration="8min", proxy="")
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
    assert errors(result) == 0 and result.verdict == "pass", result.failures
    noted = Counter(note.text.partition(",")[0] for note in result.notes)
    assert not ATTACKS[kind] or noted[ATTACKS[kind]] >= 1, noted
    stored = [entry for entry in entries if entry.stored_ns != NEVER]
    assert len(stored) > 40
    assert max(entry.stored_ns - entry.made_ns for entry in stored) < LATENCY_NS_MAX
