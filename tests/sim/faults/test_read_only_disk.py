"""A box restarts while its disk is read-only, in the virtual world."""

from __future__ import annotations

from sim.units import MINUTE_NS
from sim.verdict.ledger import NEVER
from sim.worlds.virtual.world import VirtualWorld
from tests.support.sim.fault_labs import lab_with_expectations

EVENTS = """
[[event]]
at = "10min"
fault = "link-down"
target = "uplink"
lasts = "30min"
[[event]]
at = "20min"
fault = "disk-read-only"
target = "disk"
lasts = "40min"
[[event]]
at = "30min"
fault = "power-cut"
target = "box"
lasts = "1min"
"""


def test_a_box_delivers_from_a_read_only_disk_and_accepts_reports_when_it_is_writable_again() -> None:
    with VirtualWorld(lab_with_expectations(EVENTS)) as world:
        world.run_until(90 * MINUTE_NS)
        result = world.finish()
        assert result.verdict == "pass", result.failures
        entries = list(world.ledger)
    waited = [e for e in entries if 11 * MINUTE_NS < e.made_ns < 19 * MINUTE_NS]
    assert waited and all(40 * MINUTE_NS < e.stored_ns < 59 * MINUTE_NS for e in waited)
    assert not [e for e in entries if 21 * MINUTE_NS < e.acknowledged_ns < 60 * MINUTE_NS]
    refused = [e for e in entries if 21 * MINUTE_NS < e.made_ns < 59 * MINUTE_NS]
    assert refused and all(60 * MINUTE_NS < e.acknowledged_ns < 62 * MINUTE_NS for e in refused)
    assert NEVER not in {e.stored_ns for e in refused}
