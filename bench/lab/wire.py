"""Bytes on the uplink per report, alert and reconnection: `python -m bench.lab.wire [--json]`.

The bytes of all IP packets on the simulated uplink are counted, with all layers: payload, HTTP, TLS records and
handshakes, and TCP acknowledgements.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from bench.figures import Figure, figure, run
from sim.lab.labfile import Lab, parse_lab
from sim.units import HOUR_NS, MINUTE_NS, SECOND_NS
from sim.worlds.virtual.world import VirtualWorld

LAB = """
[lab]
name = "wire"
duration = "30d"
[box]
board = "rap-4"
linger = "{linger}"
[uplink]
rate = "128kbit"
delay = "40ms"
{proxy}
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "{every}"
[[instrument]]
port = 2
model = "chemistry-analyzer"
report_every = "{every}"
[[instrument]]
port = 3
model = "immunoassay-analyzer"
report_every = "{every}"
[[instrument]]
port = 4
model = "hematology-analyzer"
report_every = "{every}"
"""
PROXY = 'proxy = { kind = "http", auth = "basic" }'


def lab(linger: str, every: str, proxy: str = "") -> Lab:
    return parse_lab(LAB.format(linger=linger, every=every, proxy=proxy), Path("wire.toml"))


def batches_of_64() -> Figure:
    """Return the bytes per routine report in batches of 64, with the alerts and audit records between them."""
    with VirtualWorld(lab("1h", "10s")) as world:
        world.run_until(HOUR_NS)
        link, stored = world.uplink, world.datacenter.stored
        before = link.forward.bytes + link.backward.bytes
        world.run_until(13 * HOUR_NS)
        spent = link.forward.bytes + link.backward.bytes - before
        each = spent / (world.datacenter.stored - stored)
    return figure("a report in both directions, batches of 64", "B", each, "<= 60")


def alerts() -> Figure:
    """Return the bytes per alert on an open connection, while no routine report waits that could be sent with it."""
    with VirtualWorld(lab("1s", "60s")) as world:
        spent, link = [], world.uplink
        for attempt in range(1, 60):
            world.run_until(attempt * 7 * MINUTE_NS)
            model = world.analyzers[1 + attempt % 4].model
            before, stored = link.forward.bytes, world.datacenter.stored
            model.mishap(model.model.mishaps[attempt % len(model.model.mishaps)].code)
            world.run_until(world.env.now + SECOND_NS // 2)
            if world.datacenter.stored == stored + 1:
                spent.append(link.forward.bytes - before)
    assert len(spent) >= 20, spent
    return figure(
        f"an alert on an open connection, sent, median of {len(spent)}",
        "B",
        statistics.median(spent),
        "<= 200",
    )


def reconnection() -> Figure:
    """Return the bytes of a reconnection after the proxy closed the idle connection; the TLS session is resumed."""
    with VirtualWorld(lab("1h", "60s", PROXY)) as world:
        world.run_until(HOUR_NS)
        assert world.proxy is not None
        link, traffic = world.uplink, world.box.traffic()
        before = link.forward.bytes + link.backward.bytes
        world.proxy.end_tunnels()
        world.run_until(world.env.now + 10 * SECOND_NS)
        spent = link.forward.bytes + link.backward.bytes - before
        assert world.box.traffic().resumed == traffic.resumed + 1, "the TLS session was not resumed"
    return figure("a reconnection with a resumed session, both directions", "B", spent, "<= 3072")


def figures() -> list[Figure]:
    return [batches_of_64(), alerts(), reconnection()]


if __name__ == "__main__":
    run(figures, __doc__)
