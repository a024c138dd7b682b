"""The backend of the firewall service, which changes the kernel, in a network namespace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.events import Alarm, Repair
from netfw.kernel.sysctl import GLOBAL_VALUES, INTERFACE_VALUES, KernelSettings
from netfw.policy.policy import Authorized, Policy, PolicyPort, PolicyTunnel, Service
from netfw.ruleset.names import CAUSES
from netfw.ruleset.render import render
from netfw.ruleset.text import ruleset_text
from netfw.service.backend import KernelBackend
from netfw.service.supervisor import NotEnforced
from tests.support.eventually import eventually
from tests.support.namespaces import Namespace, cable, namespaces

pytestmark = pytest.mark.kernel

POLICY = Policy(
    uplink="uplink",
    ports=(PolicyPort(1, "port1", (ip_interface("10.77.1.1/24"),), (Service("tcp", 443),)),),
    authorized=(Authorized("datacenter", (ip_network("203.0.113.5"),), (Service("tcp", 443),)),),
)
WITH_TUNNEL = replace(POLICY, tunnel=PolicyTunnel("tun-rap", (ip_network("10.99.0.0/16"),)))
FORWARDING = ("ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/conf/port1/forwarding")


@pytest.fixture
def box() -> Iterator[Namespace]:
    with namespaces(2) as (box, other):
        for name in ("uplink", "port1"):
            cable(box, name, other, f"{name}-peer")
        yield box


def settings(box: Namespace, *names: str) -> list[str]:
    return [box.run(Path("/proc/sys/net", name).read_text).strip() for name in names]


def test_a_policy_that_is_not_in_force_is_detected_and_put_in_force(box: Namespace) -> None:
    backend = KernelBackend(POLICY)
    assert not box.run(backend.is_in_force)
    box.run(backend.enforce)
    assert box.run(backend.is_in_force)
    assert backend.ports == [1]
    assert set(box.run(backend.refused)) == set(CAUSES)
    box.command("nft", "insert rule inet rap input accept")
    assert not box.run(backend.is_in_force)


def test_an_inspection_detects_a_change_that_the_watch_missed(box: Namespace) -> None:
    backend = KernelBackend(POLICY)
    box.run(backend.enforce)
    assert box.run(backend.inspect).problem == ""
    box.command("nft", "insert rule inet rap input accept")
    assert "chain input has beyond the policy, as rule 1: accept" in box.run(backend.inspect).problem


def test_settings_changed_by_others_are_restored_and_reported(box: Namespace) -> None:
    backend = KernelBackend(POLICY)
    box.run(backend.enforce)
    box.run(lambda: backend.set_forwarding(True))
    assert box.run(backend.inspect).repaired == ()
    names = [*GLOBAL_VALUES, *FORWARDING[:2]]
    for family, values in INTERFACE_VALUES.items():
        names += [f"{family}/conf/{scope}/{name}" for scope in ("all", "default", "port1") for name in values]
        names += [f"{family}/conf/port1/forwarding"]
    before = settings(box, *names)
    for name, value in zip(names, before, strict=True):
        box.write(name, 0 if value == "1" else 1)
        repaired = box.run(backend.inspect).repaired
        assert f"net.{name.replace('/', '.')} was " in "".join(repaired), name
        assert settings(box, *names) == before, name


def test_an_inspection_counts_the_connections_that_the_kernel_tracks(box: Namespace) -> None:
    backend = KernelBackend(POLICY)
    box.run(backend.enforce)
    count, limit = box.run(backend.inspect).limits["conntrack"]
    assert [str(count), str(limit)] == settings(
        box, "netfilter/nf_conntrack_count", "netfilter/nf_conntrack_max"
    )
    assert limit > count >= 0


def test_breaking_the_proof_is_a_problem_and_limiting_it_is_not(box: Namespace) -> None:
    backend = KernelBackend(POLICY)
    box.run(backend.enforce)
    box.command(
        "nft", "add table inet other; add chain inet other c { type filter hook output priority 10; }"
    )
    box.command("nft", "add rule inet other c meta mark set 1")
    inspection = box.run(backend.inspect)
    assert (inspection.problem, len(inspection.not_covered)) == ("", 1)
    box.command("nft", "add rule inet other c ip daddr set 192.0.2.9")
    inspection = box.run(backend.inspect)
    assert "table inet other, chain c (output, priority 10) changes packets" in inspection.problem
    assert len(inspection.not_covered) == 2
    box.command("nft", "delete table inet other")
    assert box.run(backend.inspect).problem == ""


@pytest.mark.parametrize(("policy", "forwards"), [(POLICY, "0"), (WITH_TUNNEL, "1")])
def test_packets_pass_between_interfaces_only_for_a_tunnel(
    box: Namespace, policy: Policy, forwards: str
) -> None:
    backend = KernelBackend(policy)
    for name in FORWARDING[:2]:
        box.write(name, 1)
    box.run(lambda: backend.set_forwarding(False))
    assert settings(box, *FORWARDING) == ["0"] * 3
    assert settings(box, "ipv6/conf/port1/keep_addr_on_down") == ["1"]  # ports are closed next
    box.run(backend.enforce)
    assert settings(box, *FORWARDING) == ["0"] * 3
    box.run(lambda: backend.set_forwarding(True))
    assert settings(box, *FORWARDING) == [forwards] * 3
    # the kernel changes these settings when forwarding is enabled or disabled
    assert settings(box, "ipv4/conf/all/accept_redirects", "ipv4/conf/port1/accept_redirects") == ["0", "0"]


@pytest.mark.parametrize("accepts", [False, True])
def test_settings_apply_to_all_present_and_future_interfaces(box: Namespace, accepts: bool) -> None:
    box.run(KernelBackend(replace(POLICY, accept_router_advertisements=accepts)).enforce)
    box.ip("link add later type veth peer name later-peer")
    for name in ("all", "default", "uplink", "port1", "later"):
        assert settings(
            box,
            *(
                f"ipv4/conf/{name}/{setting}"
                for setting in ("rp_filter", "arp_ignore", "arp_announce", "send_redirects")
            ),
            *(
                f"ipv6/conf/{name}/{setting}"
                for setting in ("accept_source_route", "accept_ra", "keep_addr_on_down")
            ),
        ) == ["1", "1", "2", "0", "0", "2" if accepts and name == "uplink" else "0", "1"]
    assert settings(box, "ipv4/tcp_timestamps", "ipv4/tcp_syncookies") == ["0", "1"]
    assert settings(box, "netfilter/nf_conntrack_tcp_loose") == ["0"]


def test_the_error_without_the_library_names_the_package_and_the_import_is_retried(
    monkeypatch: pytest.MonkeyPatch, box: Namespace
) -> None:
    def lacking(*_: Any) -> None:
        raise FirewallError(FirewallErrorKind.LACKING, "install libnftables1")

    backend = KernelBackend(POLICY)
    with monkeypatch.context() as patch:
        patch.setattr("netfw.service.backend.Nft", lacking)
        assert not box.run(backend.is_in_force)
        with pytest.raises(NotEnforced, match="install libnftables1"):
            box.run(backend.enforce)
    box.run(backend.enforce)
    assert box.run(backend.is_in_force)


def test_a_setting_that_the_kernel_lacks_is_named_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "ipv4" / "conf" / "all").mkdir(parents=True)
    with pytest.raises(FileNotFoundError) as failed:
        KernelSettings("uplink", folder=tmp_path).set()
    assert str(tmp_path) in str(failed.value.filename)


def test_without_ipv6_only_ipv4_forwarding_is_set(tmp_path: Path) -> None:
    (tmp_path / "ipv4").mkdir()
    (tmp_path / "ipv4" / "ip_forward").write_text("1")
    KernelSettings("uplink", folder=tmp_path).set_forwarding(False)
    assert (tmp_path / "ipv4" / "ip_forward").read_text() == "0"
    assert not (tmp_path / "ipv6").exists()


def test_another_policy_is_accepted_only_if_it_is_in_the_policy_file(box: Namespace) -> None:
    async def scenario(in_force: Policy, in_file: Policy | None) -> tuple[list[Alarm | Repair], bool]:
        events: list[Alarm | Repair] = []
        backend = KernelBackend(POLICY, lambda: in_file)
        backend.enforce()
        stop = backend.watch(events.append, dict)
        await asyncio.to_thread(apply_in_another_process, in_force)
        await eventually(lambda: len(events) == 2)
        stop()
        before = backend.is_in_force()
        backend.enforce()
        backend.set_forwarding(True)
        return events, before

    def apply_in_another_process(policy: Policy) -> None:
        text = ruleset_text(render(policy))
        box.command("nft", "-f", "-", input=f"table inet rap\ndelete table inet rap\n{text}")

    def outcome(in_force: Policy, in_file: Policy | None) -> tuple[list[Alarm | Repair], bool]:
        return box.run(lambda: asyncio.run(scenario(in_force, in_file)))

    (alarm, repair), holds = outcome(WITH_TUNNEL, WITH_TUNNEL)
    assert isinstance(alarm, Alarm)
    assert (repair, holds) == (Repair((), in_force=True), True)
    assert settings(box, "ipv4/ip_forward") == ["1"]
    (_, repair), holds = outcome(WITH_TUNNEL, None)
    assert isinstance(repair, Repair)
    assert not repair.in_force
    assert "another policy was put in force" in repair.problem
    assert not holds
    assert settings(box, "ipv4/ip_forward", "ipv4/conf/all/accept_redirects") == ["0", "0"]
