"""A virtual box behind its firewall: authorized traffic passes, and a wrong policy fails the lab."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest

from netfw.model.conntrack_tcp import TcpState
from netfw.model.packet import Packet
from netfw.model.rules import PacketVerdict
from netfw.policy.policy import Authorized, Policy, Service
from netfw.policy.policyfile import load_policy
from netfw.ruleset import sets
from sim.engine.layers import nothing_to_end
from sim.lab.labfile import Lab, parse_lab
from sim.proxies.kind import proxy_kind
from sim.units import SECOND_NS
from sim.verdict.result import Result
from sim.worlds.shared.intruders import TCP_PORTS, forbidden
from sim.worlds.shared.site.addresses import (
    BOX,
    COLLECTOR_PORT,
    DATACENTER,
    PROXY,
    box_address,
    instrument_address,
)
from sim.worlds.shared.site.policy import NOT_IN_FORCE, lab_policy, policy_file
from sim.worlds.virtual.firewall import VirtualFirewall
from sim.worlds.virtual.world import VirtualWorld
from tests.support.sim.network import Recorder

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
    """Return the explanations of the failed expectations, by name."""
    return {failure.expectation: failure.explanation for failure in result.failures}


def change(policy: Policy, **changes: object) -> Policy:
    return replace(policy, **changes)  # type: ignore[arg-type]


def with_services(policy: Policy, *services: Service) -> Policy:
    return change(policy, ports=tuple(replace(port, services=services) for port in policy.ports))


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_policy_file_of_a_lab_is_read_as_its_policy(proxy: str, tmp_path: Path) -> None:
    file = tmp_path / "firewall.toml"
    file.write_text(policy_file("rap-4", lab_policy(lab(proxy))))
    assert load_policy(file) == lab_policy(lab(proxy))


def test_the_policy_authorizes_the_proxy_if_there_is_one() -> None:
    entries = {kind: lab_policy(lab(kind)).authorized[0] for kind in PROXIES}
    assert {
        kind: (entry.role, str(entry.networks[0]), entry.services[0].port) for kind, entry in entries.items()
    } == {
        "none": ("datacenter", f"{DATACENTER}/32", 443),
        "http": ("proxy", f"{PROXY}/32", proxy_kind("http").port),
        "socks5": ("proxy", f"{PROXY}/32", proxy_kind("socks5").port),
    }


@pytest.mark.parametrize("proxy", PROXIES)
def test_reports_pass_and_the_audit_log_contains_the_enforcement(proxy: str) -> None:
    result = run(lab(proxy))
    assert result.verdict == "pass", result.failures
    assert "firewall-in-force" in [note.text for note in result.notes]


def test_a_policy_without_the_proxy_fails_the_lab() -> None:
    result = run(lab("http"), lab_policy(lab("none")))
    assert result.reports.acknowledged > 100
    assert result.reports.stored == 0
    assert " egress" in missed(result)["latency_p99"]
    assert NOT_IN_FORCE not in missed(result)["latency_p99"]  # these refusals end by themselves


def test_a_policy_without_the_collector_fails_the_lab() -> None:
    result = run(lab(), with_services(lab_policy(lab()), Service("tcp", 80)))
    assert result.reports.made > 100
    assert result.reports.acknowledged == 0
    assert " instrument" in missed(result)["latency_p99"]


def test_a_port_that_is_not_in_the_policy_stays_closed() -> None:
    policy = lab_policy(lab())
    result = run(lab(), change(policy, ports=policy.ports[:1]))
    acknowledged = {instrument.port: instrument.acknowledged for instrument in result.instruments}
    assert acknowledged[1] > 50
    assert acknowledged[3] == 0


def test_a_box_passes_nothing_before_its_policy_is_in_force() -> None:
    with running(lab()) as world:
        world.run_until(60 * SECOND_NS)
        assert world.box.refused()[NOT_IN_FORCE] == 0
        world.box.cut_power()
        world.box.restore_power()
        world.run_until(75 * SECOND_NS)  # it boots for 20 s
        assert world.box.refused()[NOT_IN_FORCE] > 0
        assert not world.box.firewall.is_in_force()
        world.run_until(150 * SECOND_NS)
        assert world.box.firewall.is_in_force()
        assert world.finish().reports.stored > 50


def test_a_killed_program_leaves_the_policy_in_force() -> None:
    with running(lab()) as world:
        world.run_until(60 * SECOND_NS)
        world.box.end_program()
        world.run_until(60 * SECOND_NS + SECOND_NS // 2)
        assert world.box.firewall.is_in_force()
        world.run_until(120 * SECOND_NS)
        assert world.box.refused()[NOT_IN_FORCE] == 0


# -- verdicts for single segments


def test_cached_verdicts_are_those_of_the_ruleset(monkeypatch: pytest.MonkeyPatch) -> None:
    events = '[[event]]\nat = "60s"\nfault = "program-killed"\ntarget = "box"\n'
    cached = run(lab(events=events))
    monkeypatch.setattr(VirtualFirewall, "_is_cached", lambda *_: False)
    evaluated = run(lab(events=events))
    assert evaluated.reports.stored == cached.reports.stored > 100
    assert evaluated.trace_sha256 == cached.trace_sha256


def test_the_ruleset_is_evaluated_only_at_the_start_and_end_of_connections() -> None:
    with running(lab()) as world:
        receive = world.box.firewall.packet_filter.receive
        evaluated: list[Packet] = []

        def recording(packet: Packet, now_ns: int) -> PacketVerdict:
            evaluated.append(packet)
            return receive(packet, now_ns)

        world.box.firewall.packet_filter.receive = recording  # type: ignore[method-assign]
        result = world.run()
        assert result.reports.stored > 100
        assert 0 < len(evaluated) < 20


SINK = 4000
SINK_ELEMENT = {"concat": [PROXY, "tcp", SINK]}


def with_sink(policy: Policy) -> Policy:
    sink = Authorized("sink", (ip_network(PROXY),), (Service("tcp", SINK),))
    return change(policy, authorized=(*policy.authorized, sink))


@contextmanager
def uploading(policy: Policy) -> Iterator[tuple[VirtualWorld, Recorder, Recorder]]:
    """Yield a world whose box has been uploading to the proxy host for five seconds, and the protocols of the server
    and of the client.
    """
    with running(lab(), policy) as world:
        world.run_until(30 * SECOND_NS)
        network, server = world.box.host.network, Recorder()

        async def serve() -> None:
            await world.loop.create_server(lambda: server, "proxy", SINK)

        async def upload() -> Recorder:
            transport, client = await world.loop.create_connection(Recorder, "proxy", SINK)
            assert isinstance(transport, asyncio.Transport) and isinstance(client, Recorder)
            transport.write(bytes(4_000_000))
            return client

        for name, program in (("proxy", serve), ("rap-box", upload)):
            incarnation = network.hosts[name].incarnation
            assert incarnation is not None
            client = world.loop.run_until_complete(incarnation.run(world.loop, program()))
        world.run_until(35 * SECOND_NS)
        assert isinstance(client, Recorder)
        yield world, server, client


def passed(world: VirtualWorld, server: Recorder, seconds: float) -> int:
    """Return the number of bytes that arrive within `seconds`, without those that are in transit now."""
    world.run_until(world.env.now + 3 * SECOND_NS)
    before = len(server.received)
    world.run_until(world.env.now + int(seconds * SECOND_NS))
    return len(server.received) - before


def test_an_upload_pauses_while_the_policy_does_not_authorize_it() -> None:
    policy = lab_policy(lab())
    with uploading(with_sink(policy)) as (world, server, client):
        assert passed(world, server, 5) > 200_000
        egress = world.box.refused()["egress"]
        world.box.firewall.load(policy)
        assert passed(world, server, 60) == 0
        assert world.box.refused()["egress"] > egress
        assert not client.lost, "an established connection keeps retransmitting"
        world.box.firewall.load(with_sink(policy))
        world.run_until(world.env.now + 60 * SECOND_NS)
        assert passed(world, server, 5) > 150_000


def test_an_upload_that_is_no_longer_authorized_fails_with_the_reason() -> None:
    policy = lab_policy(lab())
    with uploading(with_sink(policy)) as (world, _, client):
        world.box.firewall.load(policy)
        world.loop.run_for(3600 * SECOND_NS)
        assert isinstance(client.lost[0], OSError)
        assert client.lost[0].errno == errno.EHOSTUNREACH


def test_an_upload_stops_when_the_element_that_permits_it_times_out() -> None:
    with uploading(with_sink(lab_policy(lab()))) as (world, server, _):
        packet_filter, now = world.box.firewall.packet_filter, world.env.now
        name = sets.AUTHORIZED[4]
        packet_filter.close(name, SINK_ELEMENT)
        packet_filter.open(name, {"elem": {"val": SINK_ELEMENT, "timeout": 10}}, now)
        assert passed(world, server, 5) > 200_000
        world.run_until(now + 10 * SECOND_NS)
        assert passed(world, server, 5) == 0


def test_an_upload_stops_when_its_conntrack_entry_is_deleted() -> None:
    with uploading(with_sink(lab_policy(lab()))) as (world, server, _):
        world.box.firewall.packet_filter.conntrack.flush()
        assert passed(world, server, 5) == 0


def test_connection_tracking_sees_the_end_of_a_connection() -> None:
    with uploading(with_sink(lab_policy(lab()))) as (world, _, client):
        conntrack = world.box.firewall.packet_filter.conntrack
        (entry,) = [entry for entry in conntrack if SINK in entry.original]
        assert entry.tcp is not None
        states = [entry.tcp.state]
        client.transport.abort()
        world.run_until(world.env.now + 5 * SECOND_NS)
        assert [*states, entry.tcp.state] == [TcpState.ESTABLISHED, TcpState.CLOSE]


def acknowledged(world: VirtualWorld) -> int:
    """Return how many reports of the instrument at port 1 the box has acknowledged."""
    serial = world.lab.instruments[0].serial
    return sum(run.acknowledgements for (owner, _), run in world.ledger.runs.items() if owner == serial)


def test_an_instruments_connection_stops_when_its_service_is_removed() -> None:
    policy = lab_policy(lab())
    with running(lab(), policy) as world:
        world.run_until(60 * SECOND_NS)
        assert acknowledged(world) > 5
        world.box.firewall.load(with_services(policy, Service("tcp", 80)))
        before = acknowledged(world)
        refused = world.box.refused()["instrument"]
        world.run_until(120 * SECOND_NS)
        assert acknowledged(world) == before
        assert world.box.refused()["instrument"] > refused
        world.box.firewall.load(policy)
        world.run_until(240 * SECOND_NS)
        assert acknowledged(world) > before


def test_a_closed_port_passes_nothing_of_its_connections() -> None:
    with running(lab()) as world:
        world.run_until(60 * SECOND_NS)
        before = acknowledged(world)
        world.box.ports[1].set_up(False)
        world.run_until(120 * SECOND_NS)
        assert acknowledged(world) == before


# -- how refused connections fail


def connect(world: VirtualWorld, host: str, address: str, port: int) -> BaseException | None:
    """Attempt to connect from a host; return the error, or None."""

    async def attempt() -> None:
        async with asyncio.timeout(5):
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, address, port)
        transport.close()

    incarnation = world.box.host.network.hosts[host].incarnation
    assert incarnation is not None
    task = incarnation.run(world.loop, attempt())
    world.loop.run_until_complete(asyncio.wait([task]))
    return task.exception()


def test_an_unsolicited_packet_is_dropped_or_rejected_by_policy() -> None:
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


def test_an_unauthorized_connection_of_the_box_fails_at_once() -> None:
    with running(lab()) as world:
        world.run_until(30 * SECOND_NS)
        began = world.env.now
        error = connect(world, "rap-box", "proxy", 22)
        assert isinstance(error, OSError)
        assert error.errno == errno.EHOSTUNREACH
        assert world.env.now == began
        assert connect(world, "rap-box", "proxy", proxy_kind("http").port) is None


def test_a_packet_with_a_spoofed_source_is_refused() -> None:
    with running(lab()) as world:
        world.run_until(30 * SECOND_NS)
        host = world.box.host.network.hosts["instrument1"]
        host.addresses = (instrument_address(3),)
        assert isinstance(connect(world, "instrument1", box_address(1), COLLECTOR_PORT), TimeoutError)
        assert world.box.refused()["spoofed"] > 0


# -- intruders


def test_intruders_reach_nothing_while_reports_pass() -> None:
    with running(lab(events=INTRUDERS)) as world:
        result = world.run()
        assert result.verdict == "pass", result.failures
        assert world.intruders.found.tried > 100
        refused = world.box.refused()
        assert refused["outside"] > 0
        assert refused["instrument"] > 0


def test_without_the_firewall_intruders_reach_their_targets() -> None:
    with running(lab(events=INTRUDERS)) as world:
        world.box.host.firewall = None
        explanation = missed(world.run())["intrusions"]
        assert f"reached {BOX}, tcp/22" in explanation
        assert f"uplink reached {box_address(1)}, tcp/443" in world.intruders.found.reached
        assert f"instrument:3 reached {box_address(1)}, tcp/443" in world.intruders.found.reached


def test_an_additional_service_is_an_intrusion() -> None:
    wide = with_services(lab_policy(lab()), Service("tcp", COLLECTOR_PORT), Service("tcp", 22))
    result = run(lab(events=INTRUDERS), wide)
    explanation = missed(result)["intrusions"]
    assert f"instrument:3 reached {box_address(3)}, tcp/22" in explanation
    assert set(missed(result)) == {"intrusions"}


def test_a_lab_whose_intruders_attempted_nothing_fails() -> None:
    with running(lab(events=INTRUDERS)) as world:
        world.intruders.begin = lambda *_: nothing_to_end  # type: ignore[method-assign]
        assert "proves nothing" in missed(world.run())["intrusions"]


def test_intruders_do_not_try_the_services_of_their_own_port() -> None:
    within, outside = forbidden(lab(), 3), forbidden(lab(), None)
    assert COLLECTOR_PORT not in within[box_address(3)]
    assert within[box_address(1)] == outside[box_address(3)] == TCP_PORTS
    assert instrument_address(3) not in within
    assert {DATACENTER, PROXY} <= set(within)
    assert {DATACENTER, PROXY}.isdisjoint(outside)


def test_an_instrument_without_power_has_no_intruder() -> None:
    with running(lab()) as world:
        world.run_until(SECOND_NS)
        restore_power = world.instrument("instrument:1").hold_power()
        end = world.intruders.begin("instrument:1", SECOND_NS)
        world.run_until(5 * SECOND_NS)
        assert world.intruders.found.tried == 0
        restore_power()
        world.run_until(10 * SECOND_NS)
        tried = world.intruders.found.tried
        assert tried > 0
        end()
        world.instrument("instrument:1").hold_power()()
        world.run_until(20 * SECOND_NS)
        assert world.intruders.found.tried == tried


def test_the_lab_file_can_allow_intrusions() -> None:
    tolerant = msgspec.structs.replace(
        lab(events=INTRUDERS), expect=msgspec.structs.replace(lab().expect, intrusions=10_000)
    )
    with running(tolerant) as world:
        world.box.host.firewall = None
        assert "intrusions" not in missed(world.run())
