"""Nothing acknowledged is lost and nothing is stored twice: under every fault alone, and under many together."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from sim.faults import fault_kinds
from sim.lab.labfile import Lab, parse_lab
from sim.verdict.result import Result
from sim.worlds import run_lab
from sim.worlds.virtual.world import VirtualWorld

LAB = """
[lab]
name = "faulty"
duration = "90min"
seed = {seed}
[box]
board = "rap-4"
linger = "10s"
[uplink]
rate = "128kbit"
delay = "40ms"
jitter = "10ms"
loss = "0.5%"
proxy = {{ kind = "{proxy}", auth = "{auth}" }}
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "10s"
[[instrument]]
port = 2
model = "hematology-analyzer"
report_every = "10s"
{events}
[expect]
lost = 0
duplicates = 0
dropped = {dropped}
"""
DROPPED_BY_ROT_MAX = 500
"""Each rotten sector costs the records in it, and rot in a table those of a whole group."""
PARAMETERS = {
    "link-degraded": 'loss = "20%"\nduplication = "5%"\nreordering = "5%"\njitter = "100ms"',
    "link-rate": 'rate = "9600bit"',
    "mtu-black-hole": 'bytes = "1300B"',
    "proxy-kills-idle": 'after = "5s"',
    "proxy-slow": 'delay = "3s"',
    "datacenter-slow": 'delay = "15s"',
    "disk-slow": 'flush = "2s"',
    "disk-flush-fails": "times = 3",
    "dns-slow": 'delay = "8s"',
    "disk-rot": "sectors = 3\nbits = 5",
    "disk-torn": "operation = 2",
    # beyond the certificates' first day: the box has to correct its clock before it is trusted
    "clock-jump": 'by = "30d"\ndirection = "backwards"',
    "instrument-floods": "rate = 60",
    "instrument-hoards-connections": 'every = "5s"',
    "instrument-stalls-handshakes": 'every = "5s"',
    "instrument-drips-requests": 'every = "5s"',
    "instrument-ignores-answers": 'every = "5s"\nconnections = 9',
    "instrument-reconnects": 'every = "5s"',
}
MOMENTARY = ("program-killed", "disk-flush-fails", "disk-rot", "clock-jump", "address-changes")


def event(kind: str, at_min: float, lasts_min: float) -> str:
    target = fault_kinds()[kind].targets[-1]
    target = "instrument:1" if target == "instrument" else target
    lasts = "" if kind in MOMENTARY else f'lasts = "{int(lasts_min * 60)}s"'
    parameters = PARAMETERS.get(kind, "")
    return f'[[event]]\nat = "{int(at_min * 60)}s"\nfault = "{kind}"\ntarget = "{target}"\n{lasts}\n{parameters}\n'


def lab(events: str, seed: int = 1) -> Lab:
    proxy, auth = ("http", "basic") if seed % 2 else ("socks5", "password")
    dropped = DROPPED_BY_ROT_MAX if "disk-rot" in events else 0
    text = LAB.format(events=events, seed=seed, proxy=proxy, auth=auth, dropped=dropped)
    return parse_lab(text, Path("faulty.toml"))


def judge(result: Result) -> None:
    assert result.verdict == "pass", (result.failures, [event.kind for event in result.faults])
    assert result.reports.stored > 0


@pytest.mark.parametrize("kind", fault_kinds())
def test_nothing_is_lost_or_doubled_under_each_fault(kind: str) -> None:
    result = run_lab(lab(event(kind, 20, 25)))
    judge(result)
    assert result.faults[0].kind == kind
    if kind != "disk-rot":
        assert result.reports.dropped == 0


@pytest.mark.parametrize("kind", fault_kinds())
def test_nor_while_the_uplink_is_away(kind: str) -> None:
    outage = '[[event]]\nat = "10min"\nfault = "link-down"\ntarget = "uplink"\nlasts = "40min"\n'
    judge(run_lab(lab(outage + event(kind, 49, 2), seed=2)))


@pytest.mark.parametrize("seed", range(12))
def test_nor_under_many_faults_together(seed: int) -> None:
    random = Random(seed)
    kinds = random.sample(list(fault_kinds()), 8)
    events = "".join(event(kind, random.uniform(1, 70), random.uniform(0.5, 15)) for kind in kinds)
    judge(run_lab(lab(events, seed)))


BACKLOG_BEHIND_A_HOLE = """
[[event]]
at = "10min"
fault = "mtu-black-hole"
target = "uplink"
bytes = "1300B"
[[event]]
at = "11min"
fault = "link-down"
target = "uplink"
lasts = "30min"
"""


def test_a_backlog_gets_through_a_path_that_swallows_long_packets() -> None:
    text = LAB.format(seed=1, proxy="http", auth="basic", events=BACKLOG_BEHIND_A_HOLE, dropped=0)
    text = text.replace('loss = "0.5%"', 'loss = "0%"').replace('report_every = "10s"', 'report_every = "2s"')
    with VirtualWorld(parse_lab(text, Path("hole.toml"))) as world:
        result = world.run()
        assert world.link("uplink").forward.lost > 0, "nothing was swallowed, so nothing is proved"
    assert result.reports.acknowledged > 4500
    assert result.reports.waiting < 20
