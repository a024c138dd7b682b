"""A virtual lab's box behind its firewall: what the policy lets pass passes, and a wrong policy fails the lab."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from netfw.policy import Policy, Service
from netfw.policyfile import load_policy
from sim.labfile import Lab, parse_lab
from sim.net.tcp import Endpoint
from sim.result import Result
from sim.units import SECOND_NS
from sim.worlds.addresses import BOX, DATACENTER, PROXY, box_address, instrument_address
from sim.worlds.firewall import COLLECTOR_PORT, lab_policy, policy_file
from sim.worlds.gatekeeper import NOT_IN_FORCE
from sim.worlds.intruders import TCP_PORTS, forbidden
from sim.worlds.proxy import PORTS
from sim.worlds.virtual import VirtualWorld

LAB = """
[lab]
name = "walled"
duration = "5min"
[box]
board = "rap-4"
linger = "1s"
[uplink]
rate = "512kbit"
delay = "20ms"
{proxy}
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "5s"
[[instrument]]
port = 3
model = "hematology-analyzer"
report_every = "5s"
{events}
[expect]
latency_p99 = "30s"
"""
PROXIES = {
    "none": "",
    "http": 'proxy = { kind = "http", auth = "basic" }',
    "socks5": 'proxy = { kind = "socks5", auth = "password" }',
}
INTRUDERS = """
[[event]]
at = "20s"
fault = "intruder-outside"
target = "uplink"
lasts = "30s"
[[event]]
at = "20s"
fault = "intruder-instrument"
target = "instrument:3"
lasts = "100s"
"""


def lab(proxy: str = "http", events: str = "") -> Lab:
    return parse_lab(LAB.format(proxy=PROXIES[proxy], events=events), Path("walled.toml"))


@contextmanager
def running(lab: Lab, policy: Policy | None = None) -> Iterator[VirtualWorld]:
    with VirtualWorld(lab, policy=policy) as world:
        yield world


def run(lab: Lab, policy: Policy | None = None) -> Result:
    with running(lab, policy) as world:
        return world.run()


def missed(result: Result) -> dict[str, str]:
    """The expectations that do not hold, with the failures' explanations."""
    return {failure.expectation: failure.explanation for failure in result.failures}


def change(policy: Policy, **changes: object) -> Policy:
    return replace(policy, **changes)  # type: ignore[arg-type]


def with_services(policy: Policy, *services: Service) -> Policy:
    return change(policy, ports=tuple(replace(port, services=services) for port in policy.ports))


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_policy_file_says_what_the_policy_says(proxy: str, tmp_path: Path) -> None:
    file = tmp_path / "firewall.toml"
    file.write_text(policy_file("rap-4", lab_policy(lab(proxy))))
    assert load_policy(file) == lab_policy(lab(proxy))


def test_the_way_out_is_the_proxy_where_there_is_one() -> None:
    ways = {kind: lab_policy(lab(kind)).authorized[0] for kind in PROXIES}
    assert {kind: (way.role, str(way.networks[0]), way.services[0].port) for kind, way in ways.items()} == {
        "none": ("datacenter", f"{DATACENTER}/32", 443),
        "http": ("proxy", f"{PROXY}/32", PORTS["http"]),
        "socks5": ("proxy", f"{PROXY}/32", PORTS["socks5"]),
    }


@pytest.mark.parametrize("proxy", PROXIES)
def test_reports_pass_and_the_audit_log_says_what_is_in_force(proxy: str) -> None:
    result = run(lab(proxy))
    assert result.verdict == "pass", result.failures
    assert "firewall-in-force" in [note.text for note in result.notes]


def test_a_policy_that_forgets_the_proxy_fails_the_lab() -> None:
    walled = lab("http")
    result = run(walled, lab_policy(lab("none")))
    assert result.reports.acknowledged > 100
    assert result.reports.stored == 0
    assert " egress" in missed(result)["latency_p99"]
    assert NOT_IN_FORCE not in missed(result)["latency_p99"]  # that passes by itself, and explains nothing


def test_a_policy_that_forgets_the_collector_fails_the_lab() -> None:
    result = run(lab(), with_services(lab_policy(lab()), Service("tcp", 80)))
    assert result.reports.made > 100
    assert result.reports.acknowledged == 0
    assert " instrument" in missed(result)["latency_p99"]


def test_a_port_that_the_policy_does_not_have_stays_closed() -> None:
    policy = lab_policy(lab())
    result = run(lab(), change(policy, ports=policy.ports[:1]))
    acknowledged = {instrument.port: instrument.acknowledged for instrument in result.instruments}
    assert acknowledged[1] > 50
    assert acknowledged[3] == 0


def test_nothing_passes_a_box_that_has_no_policy_in_force_yet() -> None:
    with running(lab()) as world:
        world.run_until(60 * SECOND_NS)
        assert world.box.refused()[NOT_IN_FORCE] == 0
        world.box.cut_power()
        world.box.restore_power()
        world.run_until(75 * SECOND_NS)  # it boots for 20 s
        assert world.box.refused()[NOT_IN_FORCE] > 0
        assert not world.box.gatekeeper.holds()
        world.run_until(150 * SECOND_NS)
        assert world.box.gatekeeper.holds()
        assert world.finish().reports.stored > 50


def test_a_killed_program_leaves_the_policy_in_force() -> None:
    with running(lab()) as world:
        world.run_until(60 * SECOND_NS)
        world.box.kill()
        world.run_until(60 * SECOND_NS + SECOND_NS // 2)
        assert world.box.gatekeeper.holds()
        world.run_until(120 * SECOND_NS)
        assert world.box.refused()[NOT_IN_FORCE] == 0


# -- that established flows need not be asked


def test_asking_about_every_segment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    events = '[[event]]\nat = "60s"\nfault = "program-killed"\ntarget = "box"\n'
    once = run(lab(events=events))
    monkeypatch.setattr(Endpoint, "passes", property(lambda _: False, lambda *_: None), raising=False)
    always = run(lab(events=events))
    assert always.reports.stored == once.reports.stored > 100
    assert always.trace_sha256 == once.trace_sha256


def test_the_firewall_is_asked_about_beginnings_and_ends_only() -> None:
    with running(lab()) as world:
        asked = []
        receive = world.box.gatekeeper.receive
        world.box.gatekeeper.receive = lambda *what: (asked.append(what[0]), receive(*what))[1]  # type: ignore[method-assign]
        result = world.run()
        assert result.reports.stored > 100
        assert 0 < len(asked) < 20


# -- what refusing looks like


def connect(world: VirtualWorld, host: str, address: str, port: int) -> BaseException | None:
    """What becomes of an attempt to connect from that host: an error, or None."""

    async def attempt() -> None:
        async with asyncio.timeout(5):
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, address, port)
        transport.close()

    incarnation = world.box.host.network.hosts[host].incarnation
    assert incarnation is not None
    task = incarnation.run(world.loop, attempt())
    return world.loop.run_until_complete(asyncio.wait([task])) and task.exception()


def test_an_unasked_for_packet_is_dropped_or_rejected_as_the_policy_says() -> None:
    policy = lab_policy(lab())
    with running(lab(), policy) as world:
        world.run_until(30 * SECOND_NS)
        assert isinstance(connect(world, "proxy", box_address(1), COLLECTOR_PORT), TimeoutError)
        assert world.box.refused()["outside"] > 0
    with running(lab(), change(policy, rejects_outside=True)) as world:
        world.run_until(30 * SECOND_NS)
        error = connect(world, "proxy", box_address(1), COLLECTOR_PORT)
        assert isinstance(error, OSError)
        assert error.errno == errno.EHOSTUNREACH


def test_the_boxs_own_programs_learn_at_once_what_is_not_authorized() -> None:
    with running(lab()) as world:
        world.run_until(30 * SECOND_NS)
        began = world.env.now
        error = connect(world, "rap-box", "proxy", 22)
        assert isinstance(error, OSError)
        assert error.errno == errno.EHOSTUNREACH
        assert world.env.now == began
        assert connect(world, "rap-box", "proxy", PORTS["http"]) is None


def test_a_false_source_is_refused_before_anything_else() -> None:
    with running(lab()) as world:
        world.run_until(30 * SECOND_NS)
        host = world.box.host.network.hosts["instrument1"]
        host.addresses = (instrument_address(3),)
        assert isinstance(connect(world, "instrument1", box_address(1), COLLECTOR_PORT), TimeoutError)
        assert world.box.refused()["spoofed"] > 0


# -- intruders


def test_intruders_reach_nobody_while_reports_pass() -> None:
    with running(lab(events=INTRUDERS)) as world:
        result = world.run()
        assert result.verdict == "pass", result.failures
        assert world.intruders.found.tried > 100
        refused = world.box.refused()
        assert refused["outside"] > 0
        assert refused["instrument"] > 0


def test_without_the_firewall_intruders_get_through() -> None:
    with running(lab(events=INTRUDERS)) as world:
        world.box.host.firewall = None
        explanation = missed(world.run())["intrusions"]
        assert f"reached {BOX}, tcp/22" in explanation
        assert f"uplink reached {box_address(1)}, tcp/443" in world.intruders.found.reached
        assert f"instrument:3 reached {box_address(1)}, tcp/443" in world.intruders.found.reached


def test_a_service_too_many_is_an_intrusion() -> None:
    wide = with_services(lab_policy(lab()), Service("tcp", COLLECTOR_PORT), Service("tcp", 22))
    result = run(lab(events=INTRUDERS), wide)
    explanation = missed(result)["intrusions"]
    assert f"instrument:3 reached {box_address(3)}, tcp/22" in explanation
    assert set(missed(result)) == {"intrusions"}


def test_intruders_who_never_tried_prove_nothing() -> None:
    with running(lab(events=INTRUDERS)) as world:
        world.intruders.begin = lambda *_: None  # type: ignore[method-assign]
        assert "proves nothing" in missed(world.run())["intrusions"]


def test_the_services_of_a_port_are_nothing_forbidden_to_its_instrument() -> None:
    within, outside = forbidden(lab(), 3), forbidden(lab(), None)
    assert COLLECTOR_PORT not in within[box_address(3)]
    assert within[box_address(1)] == outside[box_address(3)] == TCP_PORTS
    assert instrument_address(3) not in within
    assert {DATACENTER, PROXY} <= set(within)
    assert {DATACENTER, PROXY}.isdisjoint(outside)


def test_an_instrument_that_is_off_has_no_intruder() -> None:
    with running(lab()) as world:
        world.run_until(SECOND_NS)
        world.instrument("instrument:1").power_off()
        world.intruders.begin("instrument:1", SECOND_NS)
        world.intruders.end("instrument:1")
        world.run_until(5 * SECOND_NS)
        assert world.intruders.found.tried == 0


def test_the_lab_file_says_how_many_may_get_through() -> None:
    tolerant = msgspec.structs.replace(
        lab(events=INTRUDERS), expect=msgspec.structs.replace(lab().expect, intrusions=10_000)
    )
    with running(tolerant) as world:
        world.box.host.firewall = None
        assert "intrusions" not in missed(world.run())
