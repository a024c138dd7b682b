"""Policy files: valid files are parsed, and each error is reported with its key."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from netfw.policy.policy import Authorized, Policy, PolicyPort, PolicyTunnel, Service
from netfw.policy.policyfile import load_policy
from settings.problems import SettingsError
from tests.support.netfw.boxlab import POLICIES

CLINIC = (POLICIES / "clinic.toml").read_text("utf-8")


def test_a_policy_is_read_from_its_file() -> None:
    assert load_policy(POLICIES / "ipsec.toml") == Policy(
        uplink="eno1",
        ports=(
            PolicyPort(
                3,
                "enp1s0f2",
                (ip_interface("10.77.3.254/24"),),
                (Service("tcp", 443),),
                (Service("tcp", 3389),),
            ),
        ),
        authorized=(
            Authorized("gateway", (ip_network("198.51.100.1"), ip_network("2001:db8:2::1")), ()),
            Authorized(
                "datacenter",
                (ip_network("203.0.113.0/28"), ip_network("2001:db8:1::5")),
                (Service("tcp", 443),),
            ),
        ),
        tunnel=PolicyTunnel("tun-rap", (ip_network("10.99.0.0/16"),)),
        rejects_outside=True,
        accept_router_advertisements=True,
        vpn="ipsec1",
    )


@pytest.mark.parametrize(
    ("wrong", "instead", "key", "message"),
    [
        ('board = "rap-4"', 'board = "rap-5"', "board", "unknown board 'rap-5'; known boards:"),
        ('board = "rap-4"', "", "board", "is missing; expected a string"),
        (
            "from_outside",
            "from_inside",
            "uplink.from_inside",
            "unknown key; did you mean from_outside?",
        ),
        ('= "drop"', '= "eat"', "uplink.from_outside", '"eat": must be one of drop, reject'),
        ('"time"', '"tide"', "authorized[1].role", "must be one of datacenter, proxy, time"),
        ('"udp"', '"icmp"', "authorized[1].protocol", '"icmp": must be one of tcp, udp'),
        ("[123]", "[0]", "authorized[1].ports[0]", "must be a whole number >= 1"),
        ("[123]", "123", "authorized[1].ports", "must be a list"),
        ("[123]", "[]", "authorized[1].ports", 'are missing; give protocol = "tcp" or "udp"'),
        (
            '"203.0.113.5"',
            '"203.0.113"',
            "authorized[0].addresses[0]",
            "is not an address; write 203.0.113.5",
        ),
        ('"203.0.113.5"', '"203.0.113.5/24"', "authorized[0].addresses[0]", "write 203.0.113.0/24"),
        (
            '"203.0.113.5"',
            '"127.0.0.1"',
            "authorized[0].addresses[0]",
            "overlaps the reserved range 127.0.0.0/8",
        ),
        (
            '"203.0.113.5"',
            '"224.0.0.1"',
            "authorized[0].addresses[0]",
            "overlaps the reserved range 224.0.0.0/3",
        ),
        ('"203.0.113.5"', '"0.0.0.0"', "authorized[0].addresses[0]", "overlaps the reserved range 0.0.0.0/8"),
        ('"203.0.113.5"', '"fe80::1"', "authorized[0].addresses[0]", "overlaps the reserved range fe80::/10"),
        ('"203.0.113.5"', '"0.0.0.0/0"', "authorized[0].addresses[0]", "would allow any address"),
        ('"203.0.113.5"', '"10.77.2.9"', "authorized[0].addresses[0]", "overlaps 10.77.2.0/24 of port[1]"),
        (
            '"203.0.113.5"',
            '"10.99.2.9"',
            "authorized[0].addresses[0]",
            "overlaps 10.99.0.0/16 of tunnel.staff",
        ),
        ('"203.0.113.123"', '"2001:db8::", "2001:db8::"', "authorized[1].addresses[1]", "is listed twice"),
        ("number = 2", "number = 5", "port[1].number", "rap-4 has no port 5; it has 1, 2, 3, 4"),
        ("number = 2", "number = 1", "port[1].number", "port 1 is listed twice"),
        ("number = 2", "number = 65", "port[1].number", "must be a whole number <= 64"),
        (
            "10.77.2.1/24",
            "10.77.1.2/24",
            "port[1].addresses[0]",
            "overlaps 10.77.1.0/24 of port[0].addresses[0]",
        ),
        ("10.77.2.1/24", "10.77.2.0/24", "port[1].addresses[0]", "the subnet's own or its broadcast address"),
        ("10.77.2.1/24", "10.77.2.255/24", "port[1].addresses[0]", "its broadcast address"),
        ("10.77.2.1/24", "10.77.2.1", "port[1].addresses[0]", "leaves no address for an instrument"),
        ("10.77.2.1/24", "10.77.2.x/24", "port[1].addresses[0]", "write 10.77.1.1/24"),
        ("tcp/2575", "sctp/2575", "port[1].services[1]", 'write "tcp/443"'),
        ("tcp/2575", "tcp/65536", "port[1].services[1]", "the port must be from 1 to 65535"),
        ("tcp/2575", "tcp/²", "port[1].services[1]", 'write "tcp/443"'),
        ("tcp/2575", "tcp/443", "port[1].services[1]", "is listed twice"),
        ('"tun-rap"', '"enp5s0"', "tunnel.interface", "enp5s0 is already a port of board rap-4"),
        ("10.99.0.0/16", "10.77.2.0/25", "tunnel.staff[0]", "overlaps 10.77.2.0/24 of port[1].addresses[0]"),
        ("10.98.0.1", "10.99.0.1", "tunnel.address", "overlaps 10.99.0.0/16 of tunnel.staff[0]"),
        ("10.98.0.1", "10.98.0.0/29", "tunnel.address", "is a network; give the box's own address"),
        ("10.98.0.1", "box", "tunnel.address", "is not an address"),
        ('"time"', '"gateway"', "authorized[1].ports", "a gateway uses IKE and ESP only"),
        ("[uplink]", '[uplink]\nvpn = "ipsec1"', "uplink.vpn", "add the gateway of the VPN"),
        ("[uplink]", '[uplink]\nvpn = "enp5s0"', "uplink.vpn", "enp5s0 is already a port of board rap-4"),
        ("[uplink]", '[uplink]\nvpn = "tun-rap"', "tunnel.interface", "tun-rap is the interface of the VPN"),
    ],
)
def test_an_error_is_reported_with_its_key(
    tmp_path: Path, wrong: str, instead: str, key: str, message: str
) -> None:
    assert wrong in CLINIC
    file = tmp_path / "firewall.toml"
    file.write_text(CLINIC.replace(wrong, instead, 1), "utf-8")
    with pytest.raises(SettingsError) as error:
        load_policy(file)
    assert any(problem.key == key and message in problem.message for problem in error.value.problems), str(
        error.value
    )
    assert all(line.startswith(str(file)) for line in str(error.value).splitlines())


def test_all_semantic_errors_are_reported_together(tmp_path: Path) -> None:
    file = tmp_path / "firewall.toml"
    text = (
        CLINIC.replace("number = 2", "number = 9").replace("tcp/2575", "2575").replace("203.0.113.5", "::1")
    )
    file.write_text(text, "utf-8")
    with pytest.raises(SettingsError) as error:
        load_policy(file)
    keys = [problem.key for problem in error.value.problems]
    assert keys == ["port[1].number", "port[1].services[1]", "authorized[0].addresses[0]"]


@pytest.mark.parametrize(
    ("wrong", "instead", "keys"),
    [
        ('role = "', 'rol = "', ["authorized[0].rol", "authorized[0].role"]),
        ('"rap-4"', '"rap-5"', ["board"]),
    ],
)
def test_errors_of_form_do_not_hide_other_errors(
    tmp_path: Path, wrong: str, instead: str, keys: list[str]
) -> None:
    file = tmp_path / "firewall.toml"
    text = CLINIC.replace(wrong, instead, 1).replace("number = 2", "number = 9").replace("tcp/2575", "2575")
    file.write_text(text, "utf-8")
    with pytest.raises(SettingsError) as error:
        load_policy(file)
    of_ports = ["port[1].number", "port[1].services[1]"] if "board" not in keys else []
    assert [problem.key for problem in error.value.problems] == [*keys, *of_ports]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), (b"[", "is not TOML"), (b"\xff", "is not a text file in UTF-8")],
)
def test_a_missing_or_invalid_file_is_reported(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "firewall.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        load_policy(file)


def test_a_board_can_be_a_file_beside_the_policy(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\nuplink = "wan"\n[instrument_ports]\n1 = "a"\n2 = "b"\n'
    )
    file = tmp_path / "firewall.toml"
    file.write_text(CLINIC.replace('"rap-4"', '"mine.toml"'), "utf-8")
    policy = load_policy(file)
    assert (policy.uplink, [port.interface for port in policy.ports]) == ("wan", ["a", "b"])
