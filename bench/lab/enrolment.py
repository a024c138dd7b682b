"""Bytes on the uplink for enrolment and renewal, by part: `python -m bench.lab.enrolment [--json]`.

The bytes of all IP packets on the simulated uplink are counted, with all layers: EST, HTTP, TLS, and TCP with its
acknowledgements. Keys are those of the field, on P-256. What the box sends without enrolment is subtracted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agents.box.enrolment.records import NEXT, USED, IdentityRecord, IdentityRecords
from bench.figures import Figure, figure, run
from sim.lab.labfile import parse_lab
from sim.units import SECOND_NS
from sim.worlds.shared.certificates import LabKeys
from sim.worlds.virtual.world import VirtualWorld
from wire.pki.hierarchy import make_key

LAB = """
[lab]
name = "enrolment"
duration = "1h"
[box]
board = "rap-4"
enrolment = "{enrolment}"
[uplink]
rate = "128kbit"
delay = "40ms"
{proxy}
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "1h"
"""
PROXY = 'proxy = { kind = "http", auth = "basic" }'
SECONDS = 60
"""The first minute: what happens later does not belong to the enrolment."""
STEP_NS = SECOND_NS // 50


def figures() -> list[Figure]:
    """Return the bytes of an enrolment, directly and through a proxy, and how long it takes."""
    return [*_enrolment("", "<= 6000", "<= 3"), *_enrolment(PROXY, "<= 6000", "<= 3")]


def _enrolment(proxy: str, bytes_max: str = "", seconds_max: str = "") -> list[Figure]:
    with _world("none", proxy) as world:
        world.run_until(SECONDS * SECOND_NS)
        usual = _spent(world)
    with _world("flashed", proxy) as world:
        records = IdentityRecords(world.box.disk)
        requested_ns = _run_until(world, lambda: records.load(NEXT) is not None)
        _run_until(world, lambda: _has_certificate(records.load(NEXT)))
        issued = _spent(world) - usual
        connections = world.box.traffic().connections
        _run_until(world, lambda: world.box.traffic().connections > connections)
        accepted = _spent(world) - usual
        used_ns = _run_until(world, lambda: records.load(USED) is not None)
        world.run_until(SECONDS * SECOND_NS)
        total = _spent(world) - usual
    way = " through a proxy" if proxy else ""
    return [
        figure(f"request and certificate{way}", "B", issued),
        figure(f"TLS handshake with the new certificate{way}", "B", accepted - issued),
        figure(f"proof, first batches and audit records{way}", "B", total - accepted),
        figure(f"enrolment{way}, both directions", "B", total, bytes_max),
        figure(
            f"from the key to the use of its certificate{way}",
            "s",
            (used_ns - requested_ns) / 1e9,
            seconds_max,
        ),
    ]


def _world(enrolment: str, proxy: str) -> VirtualWorld:
    lab = parse_lab(LAB.format(enrolment=enrolment, proxy=proxy), Path("enrolment.toml"))
    return VirtualWorld(lab, keys=LabKeys(make_key(), make_key()))


def _spent(world: VirtualWorld) -> int:
    return world.uplink.forward.bytes + world.uplink.backward.bytes


def _has_certificate(record: IdentityRecord | None) -> bool:
    return record is not None and bool(record.chain)


def _run_until(world: VirtualWorld, holds: Callable[[], bool]) -> int:
    """Run until a condition holds; return the lab's time in ns."""
    while not holds():
        assert world.env.now < SECONDS * SECOND_NS, "it takes too long"
        world.run_until(world.env.now + STEP_NS)
    return world.env.now


if __name__ == "__main__":
    run(figures, __doc__)
