"""A proxy that inspects TLS gets no data from the box and is reported; the box delivers its backlog afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.box.status.snapshot import BoxStatus
from datacenter.store import queries
from sim.lab.labfile import parse_lab
from sim.units import MINUTE_NS
from sim.worlds.virtual.world import VirtualWorld
from wire.messages import Audit, decode

LAB = """
[lab]
name = "inspection"
duration = "2h"
[box]
board = "rap-4"
[uplink]
rate = "128kbit"
delay = "40ms"
proxy = {{ kind = "{kind}", auth = "{auth}" }}
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "10s"
[[event]]
at = "20min"
fault = "proxy-inspects"
target = "proxy"
lasts = "50min"
[[event]]
at = "40min"
fault = "proxy-inspects"
target = "proxy"
lasts = "10min"
[expect]
backlog_drained_within = "5min"
"""
ISSUER = '"clinic TLS inspection"'


@pytest.mark.parametrize(("kind", "auth"), [("http", "none"), ("http", "digest"), ("socks5", "password")])
def test_an_inspecting_proxy_is_reported_and_receives_no_data(kind: str, auth: str) -> None:
    lab = parse_lab(LAB.format(kind=kind, auth=auth), Path("inspection.toml"))
    statuses: dict[str, BoxStatus | None] = {}
    with VirtualWorld(lab) as world:
        for minute, name in ((15, "before"), (60, "during"), (100, "after")):
            world.run_until(minute * MINUTE_NS)
            statuses[name] = world.loop.run_until_complete(world.box.status())
        world.run_until(lab.about.duration)
        result = world.finish()
        assert world.proxy is not None
        assert world.proxy.behavior.inspected_bytes == 0, (
            "the box sends nothing to a server that it does not trust"
        )
        assert len(world.proxy.behavior.tunnels) <= 1
        audits = [
            decode(Audit, body).event
            for record, body in queries.bodies(world.datacenter.store)
            if record.kind == "audit"
        ]
    assert result.verdict == "pass"
    before, during, after = (statuses[name] for name in ("before", "during", "after"))
    assert before is not None and during is not None and after is not None
    assert (before.trust, after.trust) == (None, None)
    assert during.trust is not None and during.trust.issuer == ISSUER
    assert audits.count("far-end-inspected") == audits.count("far-end-trusted") == 1
