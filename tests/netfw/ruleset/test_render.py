"""Rendered rulesets, loaded by nft and tested with real packets between network namespaces."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRedirectedHdr,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.policy.policy import Authorized, Policy, PolicyPort, Service
from netfw.policy.policyfile import load_policy
from netfw.ruleset import names
from netfw.ruleset.render import RULES_MAX, render
from netfw.ruleset.text import ruleset_text
from tests.support.eventually import WAIT_SECONDS_MAX, poll_until
from tests.support.namespaces import Namespace, cable, namespace
from tests.support.netfw.boxlab import (
    BOX_HARDWARE,
    DATACENTER,
    ELSEWHERE,
    INSTRUMENT,
    POLICIES,
    PORT,
    ROUTER,
    STAFF,
    UPLINK,
    BoxLab,
    box_lab,
)

HTTPS, MLLP, DESKTOP, IKE = 443, 2575, 5900, 500
EVERY_POLICY = sorted(POLICIES.glob("*.toml"))
both_versions = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture(scope="module")
def shared() -> Iterator[BoxLab]:
    with box_lab() as lab:
        yield lab


VPN = "ipsec1"


@pytest.fixture
def lab(shared: BoxLab) -> BoxLab:
    shared.apply(load_policy(POLICIES / "clinic.toml"))
    return shared


def largest() -> Policy:
    """Return a policy with 64 ports and 10,000 addresses that requires every kind of rule."""
    ports = tuple(
        PolicyPort(
            number=n,
            interface=f"eth{n}",
            addresses=(ip_interface(f"10.77.{n}.1/24"), ip_interface(f"fd00:77:{n:x}::1/64")),
            services=(Service("tcp", HTTPS), Service("tcp", MLLP)),
            desktop=(Service("tcp", DESKTOP),),
        )
        for n in range(1, 65)
    )
    hosts = tuple(ip_network(int(ip_address("50.0.0.0")) + 2 * n) for n in range(10_000))
    ipsec = load_policy(POLICIES / "ipsec.toml")
    return replace(
        ipsec,
        uses_dhcp=True,
        ports=ports,
        authorized=(*ipsec.authorized, Authorized("proxy", hosts, (Service("tcp", 3128),))),
    )


def test_the_number_of_rules_does_not_grow_with_the_policy() -> None:
    policy = largest()
    count = sum(len(chain.rules) for chain in render(policy).chains)
    smaller = render(replace(policy, ports=policy.ports[:1], authorized=policy.authorized[:2]))
    assert count == sum(len(chain.rules) for chain in smaller.chains)
    assert count <= RULES_MAX


@pytest.mark.kernel
def test_the_kernel_lists_the_largest_policy_as_it_was_rendered() -> None:
    with namespace() as here:
        firewall = Firewall(here.run(Nft))
        firewall.apply(largest())
        assert firewall.differences(largest()) == []


@pytest.mark.kernel
@pytest.mark.parametrize("file", EVERY_POLICY, ids=lambda file: file.stem)
def test_nft_reads_text_and_json_as_the_same_ruleset(file: Path) -> None:
    policy = load_policy(file)
    with namespace() as here:
        here.command("nft", "--check", "-f", "-", input=ruleset_text(render(policy)))
        firewall = Firewall(here.run(Nft))
        assert firewall.save() is None, "--check changed the ruleset"
        here.command("nft", "-f", "-", input=ruleset_text(render(policy)))
        assert firewall.differences(policy) == []


@pytest.mark.parametrize("file", EVERY_POLICY, ids=lambda file: file.stem)
def test_every_base_chain_drops_by_policy_and_by_its_last_rule(file: Path) -> None:
    for chain in render(load_policy(file)).chains:
        if chain.hook:
            (counted, verdict) = chain.rules[-1]
            assert counted["counter"] in names.CAUSES
            assert next(iter(verdict)) in ("drop", "reject")


@pytest.mark.kernel
@both_versions
def test_an_instrument_reaches_the_services_of_its_port(lab: BoxLab, version: int) -> None:
    one, two = lab.instrument[1], lab.instrument[2]
    assert lab.attempt(one, lab.box, PORT[1][version], HTTPS) == "reached"
    assert lab.attempt(two, lab.box, PORT[2][version], MLLP) == "reached"
    assert lab.attempt(one, lab.box, PORT[1][version], MLLP) == names.INSTRUMENT
    assert lab.attempt(one, lab.box, PORT[1][version], HTTPS, kind="udp") == names.INSTRUMENT
    assert lab.attempt(one, lab.box, PORT[2][version], HTTPS) == names.INSTRUMENT  # another port's address
    assert lab.attempt(one, lab.box, UPLINK[version], HTTPS) == names.INSTRUMENT


@pytest.mark.kernel
@both_versions
def test_instruments_reach_neither_each_other_nor_the_uplink(lab: BoxLab, version: int) -> None:
    one, two = lab.instrument[1], lab.instrument[2]
    assert lab.attempt(one, two, INSTRUMENT[2][version], HTTPS) == names.CROSSING
    assert lab.attempt(one, lab.outside, DATACENTER[version], HTTPS) == names.LEAVING


@pytest.mark.kernel
@both_versions
def test_nothing_from_outside_is_accepted(lab: BoxLab, version: int) -> None:
    outside = lab.outside
    assert lab.attempt(outside, lab.box, UPLINK[version], HTTPS) == names.OUTSIDE
    assert lab.attempt(outside, lab.box, PORT[1][version], HTTPS) == names.OUTSIDE
    one = lab.instrument[1]
    assert lab.attempt(outside, one, INSTRUMENT[1][version], DESKTOP) == names.OUTSIDE
    datacenter = DATACENTER[version]
    assert lab.attempt(outside, lab.box, UPLINK[version], HTTPS, source=datacenter) == names.OUTSIDE


@pytest.mark.kernel
@both_versions
def test_packets_from_outside_are_rejected_if_the_policy_requires_it(lab: BoxLab, version: int) -> None:
    lab.apply(replace(lab.policy, rejects_outside=True))
    error = lab.attempt(lab.outside, lab.box, UPLINK[version], HTTPS)
    assert error == {4: "EHOSTUNREACH", 6: "EACCES"}[version]
    assert lab.packets(names.EGRESS) == 0, "the rejection itself was refused"


@pytest.mark.kernel
@both_versions
def test_the_box_reaches_only_authorized_addresses(lab: BoxLab, version: int) -> None:
    refusal = {4: "EHOSTUNREACH", 6: "EACCES"}[version]
    assert lab.attempt(lab.box, lab.outside, DATACENTER[version], HTTPS) == "reached"
    assert lab.attempt(lab.box, lab.outside, DATACENTER[version], 80) == refusal
    assert lab.attempt(lab.box, lab.outside, ELSEWHERE[version], HTTPS) == refusal
    one = lab.instrument[1]
    assert lab.attempt(lab.box, one, INSTRUMENT[1][version], HTTPS) == refusal
    assert lab.attempt(lab.box, lab.staff, STAFF[version], HTTPS) == refusal


@pytest.mark.kernel
@both_versions
def test_outside_the_vpn_only_its_gateway_is_reached(lab: BoxLab, version: int) -> None:
    gateway = Authorized("gateway", (ip_network(ROUTER[version]),), ())
    lab.apply(replace(lab.policy, authorized=(*lab.policy.authorized, gateway), vpn=VPN))
    refusal = {4: "EHOSTUNREACH", 6: "EACCES"}[version]
    assert lab.attempt(lab.box, lab.outside, DATACENTER[version], HTTPS) == refusal
    assert lab.attempt(lab.box, lab.outside, ROUTER[version], HTTPS) == refusal
    with pytest.raises(PermissionError):  # IKE has the same port at both ends
        lab.attempt(lab.box, lab.outside, ROUTER[version], IKE, kind="udp")
    with closing(lab.box.socket({4: socket.AF_INET, 6: socket.AF_INET6}[version], socket.SOCK_DGRAM)) as ike:
        ike.bind((UPLINK[version], IKE))
        with closing(lab.listener(lab.outside, ROUTER[version], IKE, "udp")) as gateway_ike:
            for end in (ike, gateway_ike):
                end.settimeout(WAIT_SECONDS_MAX)
            ike.sendto(b"initiator", (ROUTER[version], IKE))
            assert gateway_ike.recv(64) == b"initiator"
            before = lab.refused()
            gateway_ike.sendto(b"responder", (UPLINK[version], IKE))
            gateway_ike.sendto(b"rekey", (UPLINK[version], IKE))
            assert [ike.recv(64), ike.recv(64)] == [b"responder", b"rekey"]
            assert lab.causes(before) == set()


@pytest.mark.kernel
@both_versions
def test_esp_passes_only_between_the_box_and_its_gateway(lab: BoxLab, version: int) -> None:
    gateway = Authorized("gateway", (ip_network(ROUTER[version]),), ())
    lab.apply(replace(lab.policy, authorized=(gateway,), vpn=VPN))
    family = {4: socket.AF_INET, 6: socket.AF_INET6}[version]
    with (
        closing(lab.box.socket(family, socket.SOCK_RAW, socket.IPPROTO_ESP)) as box,
        closing(lab.outside.socket(family, socket.SOCK_RAW, socket.IPPROTO_ESP)) as outside,
    ):
        for end in (box, outside):
            end.settimeout(WAIT_SECONDS_MAX)
        box.sendto(b"request", (ROUTER[version], 0))
        assert outside.recv(64).endswith(b"request")
        outside.sendto(b"answer", (UPLINK[version], 0))
        assert box.recv(64).endswith(b"answer")
        before = lab.refused()
        with pytest.raises(OSError, match=r"Permission denied|No route to host|not permitted"):
            box.sendto(b"request", (ELSEWHERE[version], 0))
            box.sendto(b"request", (ELSEWHERE[version], 0))
        outside.bind((ELSEWHERE[version], 0))
        outside.sendto(b"answer", (UPLINK[version], 0))
        assert lab.causes(before) == {names.EGRESS, names.OUTSIDE}


@pytest.mark.kernel
def test_an_address_removed_from_the_policy_is_cut_off_immediately(lab: BoxLab) -> None:
    with (
        closing(lab.listener(lab.outside, DATACENTER[4], HTTPS)) as server,
        closing(lab.box.socket(socket.AF_INET, socket.SOCK_STREAM)) as client,
    ):
        client.connect((DATACENTER[4], HTTPS))
        server.accept()[0].close()
        lab.apply(replace(lab.policy, authorized=()))
        before = lab.packets(names.EGRESS)
        client.setblocking(False)
        client.send(b"more")
        assert lab.packets(names.EGRESS) > before


@pytest.mark.kernel
@both_versions
@pytest.mark.parametrize(
    ("zone", "source"),
    [
        ("port 1", INSTRUMENT[2]),  # the address of another instrument
        ("port 1", PORT[1]),  # the box's own address
        ("port 1", DATACENTER),
        ("port 1", STAFF),
        ("port 1", {4: "10.77.1.255", 6: "fe80::5"}),
        ("uplink", INSTRUMENT[1]),
        ("uplink", PORT[1]),
        ("uplink", STAFF),
        ("uplink", {4: "127.0.0.1", 6: "fe80::7"}),
        ("uplink", {4: "224.0.0.9", 6: "::ffff:9.9.9.9"}),
        ("uplink", {4: "0.0.0.0", 6: "::"}),
        ("uplink", {4: "255.255.255.255", 6: "::ffff:1.2.3.4"}),
        ("tunnel", INSTRUMENT[1]),
        ("tunnel", DATACENTER),
    ],
)
def test_a_spoofed_source_is_refused_before_tracking(
    lab: BoxLab, zone: str, source: dict[int, str], version: int
) -> None:
    here, name = {
        "port 1": (lab.instrument[1], "eth0"),
        "uplink": (lab.outside, "wan"),
        "tunnel": (lab.staff, "eth0"),
    }[zone]
    target = UPLINK if zone == "uplink" else PORT[1]
    ip = {4: IP, 6: IPv6}[version]
    before = lab.refused()
    put(here, name, ip(src=source[version], dst=target[version]) / TCP(dport=HTTPS))
    assert lab.causes(before) == {names.SPOOFED}


@pytest.mark.kernel
@pytest.mark.parametrize("zone", ["port 1", "uplink"])
def test_multicast_is_not_counted_as_spoofing(lab: BoxLab, zone: str) -> None:
    here, name = {"port 1": (lab.instrument[1], "eth0"), "uplink": (lab.outside, "wan")}[zone]
    before = lab.refused()
    put(here, name, IPv6(src="fe80::5", dst="ff02::fb") / UDP(sport=5353, dport=5353))
    assert lab.causes(before) == set()
    assert lab.packets(names.LINK) > before[names.LINK]


@pytest.mark.kernel
@both_versions
def test_neighbour_discovery_works_and_router_advertisements_are_refused(lab: BoxLab, version: int) -> None:
    lab.box.ip("neigh flush dev enp2s0")
    assert lab.attempt(lab.instrument[1], lab.box, PORT[1][version], HTTPS) == "reached"
    advertise(lab)
    assert "2001:db8:66" not in addresses(lab)


@pytest.mark.kernel
def test_a_policy_can_accept_router_advertisements_only_on_the_uplink(lab: BoxLab) -> None:
    lab.apply(replace(lab.policy, accept_router_advertisements=True))
    for setting, value in (("accept_ra", 2), ("autoconf", 1), ("accept_ra_defrtr", 0)):
        lab.box.write(f"ipv6/conf/enp1s0/{setting}", value)
        lab.box.write(f"ipv6/conf/enp2s0/{setting}", value)
    advertise(lab)
    assert "2001:db8:66:" in addresses(lab, "enp1s0")
    assert "2001:db8:66:" not in addresses(lab, "enp2s0")


@pytest.mark.kernel
def test_neighbour_discovery_with_another_hop_limit_is_refused(lab: BoxLab) -> None:
    before = lab.packets(names.OUTSIDE)
    solicit = ICMPv6ND_NS(tgt=UPLINK[6])
    put(lab.outside, "wan", IPv6(src=ELSEWHERE[6], dst=UPLINK[6], hlim=254) / solicit)
    assert lab.packets(names.OUTSIDE) == before + 1
    put(lab.outside, "wan", IPv6(src=ELSEWHERE[6], dst=UPLINK[6], hlim=255) / solicit)
    assert lab.packets(names.OUTSIDE) == before + 1


@pytest.mark.kernel
@both_versions
def test_a_redirect_that_quotes_an_open_connection_is_refused(lab: BoxLab, version: int) -> None:
    """An error with the same quotation is accepted, which proves that the quotation is valid."""
    ip = {4: IP, 6: IPv6}[version]
    with (
        closing(lab.listener(lab.outside, DATACENTER[version], HTTPS)) as server,
        closing(lab.box.socket(server.family, server.type)) as client,
    ):
        client.connect((DATACENTER[version], HTTPS))
        tcp = TCP(sport=client.getsockname()[1], dport=HTTPS, flags="A")
        quoted = ip(src=UPLINK[version], dst=DATACENTER[version]) / tcp
        redirect, error = {
            4: (ICMP(type=5, code=1, gw=ELSEWHERE[4]) / quoted, ICMP(type=3, code=1) / quoted),
            6: (
                ICMPv6ND_Redirect(tgt=ELSEWHERE[6], dst=DATACENTER[6])
                / ICMPv6NDOptRedirectedHdr(pkt=bytes(quoted)),
                ICMPv6DestUnreach() / quoted,
            ),
        }[version]
        for source in {ROUTER[version], {4: ROUTER[4], 6: "fe80::99"}[version]}:
            before = lab.refused()
            put(lab.outside, "wan", ip(src=source, dst=UPLINK[version], **NEAR[version]) / redirect)
            assert lab.causes(before) == set()
            assert lab.packets(names.LINK) > before[names.LINK]
        before = lab.refused()
        put(lab.outside, "wan", ip(src=ROUTER[version], dst=UPLINK[version]) / error)
        assert lab.causes(before) == set()


NEAR: dict[int, dict[str, Any]] = {4: {"ttl": 255}, 6: {"hlim": 255}}


@pytest.mark.kernel
def test_an_interface_without_a_zone_is_closed(lab: BoxLab) -> None:
    with namespace() as unzoned:
        cable(lab.box, "enp4s0", unzoned, "eth0")
        before = lab.packets(names.UNUSED)

        def is_refused() -> bool:
            put(unzoned, "eth0", IP(src="192.0.2.77", dst=UPLINK[4]) / TCP(dport=HTTPS))
            return lab.packets(names.UNUSED) > before

        poll_until(is_refused)  # packets are lost until the new link has a carrier at both ends


@pytest.mark.kernel
def test_packets_that_cannot_begin_a_connection_are_refused(lab: BoxLab) -> None:
    before = lab.packets(names.INVALID)
    for flags in ("A", "SA", "F", "R", "SF", ""):
        packet = IP(src=INSTRUMENT[1][4], dst=PORT[1][4]) / TCP(sport=5000, dport=HTTPS, flags=flags)
        put(lab.instrument[1], "eth0", packet)
    assert lab.packets(names.INVALID) == before + 6


@pytest.mark.kernel
def test_the_ruleset_works_beside_firewalld(lab: BoxLab) -> None:
    """Both must accept a packet: firewalld's chains have a later priority and end with a reject."""
    lab.box.command("nft", "-f", "-", input=FIREWALLD)
    try:
        assert lab.attempt(lab.instrument[1], lab.box, PORT[1][4], HTTPS) == "reached"
        assert lab.attempt(lab.instrument[1], lab.box, PORT[1][4], MLLP) == names.INSTRUMENT
        policy = replace(
            lab.policy, ports=tuple(replace(p, services=(Service("tcp", MLLP),)) for p in lab.policy.ports)
        )
        lab.apply(policy)
        assert lab.attempt(lab.instrument[1], lab.box, PORT[1][4], MLLP) == "EHOSTUNREACH"
        listed = lab.box.command("nft", "list", "table", "inet", "firewalld", capture_output=True).stdout
        assert "tcp dport 443 accept" in listed
    finally:
        lab.box.command("nft", "delete", "table", "inet", "firewalld")


FIREWALLD = """
table inet firewalld {
    chain filter_INPUT {
        type filter hook input priority filter + 10; policy accept;
        ct state { established, related } accept
        iifname "lo" accept
        tcp dport 443 accept
        ip6 nexthdr icmpv6 accept
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        reject with icmpx admin-prohibited
    }
    chain filter_OUTPUT {
        type filter hook output priority filter + 10; policy accept;
    }
}
"""


def put(here: Namespace, interface: str, packet: Packet) -> None:
    """Send a packet to the box at the other end of the veth pair, which has delivered it when `send` returns."""
    frame = Ether(src="02:00:00:00:00:99", dst=BOX_HARDWARE) / packet
    with closing(here.socket(socket.AF_PACKET, socket.SOCK_RAW)) as wire:
        wire.bind((interface, 0))
        wire.send(bytes(frame))


def advertise(lab: BoxLab) -> None:
    """Send a router advertisement with a prefix, on the uplink and on a port."""
    for host, interface in ((lab.outside, "wan"), (lab.instrument[1], "eth0")):
        prefix = ICMPv6NDOptPrefixInfo(prefix="2001:db8:66::", prefixlen=64)
        put(host, interface, IPv6(src="fe80::99", dst="ff02::1", hlim=255) / ICMPv6ND_RA() / prefix)


def addresses(lab: BoxLab, interface: str = "enp1s0") -> str:
    listed = lab.box.command("ip", "-6", "address", "show", "dev", interface, capture_output=True)
    return str(listed.stdout)
