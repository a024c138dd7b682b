"""Checks of a lab before it runs: expectations that cannot hold because the lab leaves nothing to check."""

from __future__ import annotations

from sim.lab.labfile import Lab
from sim.verdict.causes import outage_ends


def unmeasurable_expectations(lab: Lab) -> list[str]:
    """Return messages about expectations that cannot hold, because the lab's events leave nothing to check."""
    lines = []
    if lab.expect.backlog_drained_within is not None and not outage_ends(lab.events):
        lines.append(
            "expect.backlog_drained_within: no event ends an outage of the path to the data center, so there is "
            "nothing to check; give an event of uplink, proxy, dns, datacenter, box or disk with `lasts`, or leave "
            "the key out"
        )
    targets = {event.target for event in lab.events}
    ports = {f"instrument:{instrument.port}" for instrument in lab.instruments}
    if lab.expect.other_ports_latency_p99 is not None and not (ports & targets and ports - targets):
        lines.append(
            "expect.other_ports_latency_p99: it checks instruments that no event targets while others are targeted, "
            "and this lab leaves nothing to check; give an event of an instrument and one more instrument, or leave "
            "the key out"
        )
    cut = {e.target for e in lab.events if e.at == 0 and e.lasts is None and e.fault.effect == "blocks"}
    if not ports - cut or "box" in cut:
        lines.append("event: no instrument can report at any time of the lab, so there is nothing to check")
    return lines
