"""Changes by other programs outside the table are detected; those that cannot weaken the firewall are ignored."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.policy.policyfile import load_policy
from netfw.watch import surroundings
from netfw.watch.foreign import NotCovered, effect_of
from netfw.watch.surroundings import Inspector, legacy_tables
from rap.__main__ import main
from tests.support.namespaces import Namespace, namespace
from tests.support.netfw.boxlab import POLICIES

pytestmark = pytest.mark.kernel

FILE = POLICIES / "clinic.toml"
POLICY = load_policy(FILE)
UPLINK, PORT = POLICY.uplink, POLICY.ports[0].interface


@contextmanager
def box() -> Iterator[tuple[Namespace, Inspector]]:
    """Yield a namespace with the policy's interfaces and the policy in force, and an inspector that knows both."""
    with namespace() as here:
        here.ip(*(f"link add {name} type veth peer name far-{name}" for name in (UPLINK, PORT)))
        nft = here.run(Nft)
        Firewall(nft).apply(POLICY)
        inspector = here.run(lambda: Inspector(POLICY))
        assert here.run(inspector.inspect) == []
        yield here, inspector
        inspector.close()
        nft.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Namespace, Inspector]]:
    with box() as inspected:
        yield inspected


def chain(family: str, hook: str, *rules: str, kind: str = "filter", priority: int = 10) -> str:
    lines = [f"add table {family} other", f"flush table {family} other"]
    lines += [f"add chain {family} other c {{ type {kind} hook {hook} priority {priority}; }}"]
    return "; ".join([*lines, *(f"add rule {family} other c {rule}" for rule in rules)])


BREAKS = {
    "destination behind our chain": (chain("ip", "output", "ip daddr set 192.0.2.9"), "output, priority 10) changes"),
    "destination before our chain": (chain("inet", "prerouting", "ip daddr set 192.0.2.9", priority=-350), "changes"),
    "port": (chain("inet", "output", "udp dport set 9"), "changes packets (payload)"),
    "address through nat": (chain("ip", "prerouting", "dnat to 192.0.2.9", kind="nat"), "changes addresses (nat)"),
    "redirect": (chain("inet", "prerouting", "tcp dport 1 redirect to :443", kind="nat"), "(redirect)"),
    "duplicate": (chain("ip", "input", "dup to 192.0.2.9 device lo"), "duplicates packets"),
    "duplicate at ingress": (chain("netdev", f"ingress device {PORT}", "dup to lo"), f"ingress of {PORT}"),
    "forward at ingress": (chain("netdev", f"ingress device {PORT}", "fwd to lo"), "forwards packets"),
    "forward at egress": (chain("netdev", f"egress device {UPLINK}", "fwd to lo"), f"egress of {UPLINK}"),
    "rewritten at egress": (chain("netdev", f"egress device {UPLINK}", "ip daddr set 192.0.2.9"), "changes packets"),
    "transparent proxy": (
        chain("ip", "prerouting", "meta l4proto tcp tproxy to :99", priority=-150), "redirects packets to a program"),
    "answers in place of the box": (chain("inet", "input", "tcp dport 443 synproxy mss 1460 wscale 7"), "answers"),
    "by a jump": (
        chain("inet", "output") + "; add chain inet other d; add chain inet other e; add rule inet other c jump d; "
        "add rule inet other d goto e; add rule inet other e ip daddr set 192.0.2.9", "chain c (output"),
    "by a verdict map": (
        chain("inet", "output") + "; add chain inet other d; add rule inet other d ip daddr set 192.0.2.9; "
        "add rule inet other c ip saddr vmap { 192.0.2.1 : jump d }", "chain c (output"),
    "by a named verdict map": (
        chain("inet", "output") + "; add chain inet other d; add rule inet other d ip daddr set 192.0.2.9; "
        "add map inet other m { type ipv4_addr : verdict; elements = { 192.0.2.1 : goto d }; }; "
        "add rule inet other c ip saddr vmap @m", "chain c (output"),
}  # fmt: skip
LIMITS = {
    "not tracked": (chain("inet", "prerouting", "notrack", priority=-300), "excludes packets"),
    "zone": (chain("inet", "prerouting", "ct zone set 3", priority=-300), "another zone"),
    "mark": (chain("inet", "prerouting", "meta mark set 3"), "marks packets"),
    "masquerade": (chain("inet", "postrouting", "masquerade", kind="nat"), "masquerade"),
    "helper": (
        chain("inet", "output") + '; add ct helper inet other h { type "ftp" protocol tcp; }; '
        'add rule inet other c tcp dport 21 ct helper set "h"', "helper"),
}  # fmt: skip
HARMLESS = {
    "filters": chain("inet", "input", "tcp dport 22 accept", "iifname lo counter log drop", "reject", priority=5),
    "nat without a rule": chain("ip", "prerouting", kind="nat"),
    "limits": chain("inet", "forward", "limit rate 5/second accept", "ct count 4 drop", "quota over 1 mbytes drop"),
    "reads": chain("inet", "prerouting", "fib saddr . iif oif missing drop", "meta nftrace set 1"),
    "options": chain("inet", "prerouting", "tcp option maxseg size 1-9 drop"),
    "sets": chain("inet", "input", "meter m { ip saddr limit rate 5/second } accept"),
    "unreached": chain("inet", "output") + "; add chain inet other d; add rule inet other d ip daddr set 192.0.2.9",
}  # fmt: skip


def findings_after(here: Namespace, inspector: Inspector, command: str) -> list[NotCovered]:
    """Execute a command, inspect, and revert the command; return the findings."""
    here.command("nft", "-f", "-", input=command)
    try:
        return here.run(inspector.inspect)
    finally:
        family = command.split()[2]
        here.command("nft", f"delete table {family} other")


@pytest.mark.parametrize("name", BREAKS)
def test_anything_that_breaks_a_theorem_is_detected(shared: tuple[Namespace, Inspector], name: str) -> None:
    command, expected = BREAKS[name]
    (finding,) = findings_after(*shared, command)
    assert expected in finding.description
    assert f"table {command.split()[2]} other" in finding.description
    assert finding.breaks


@pytest.mark.parametrize("name", LIMITS)
def test_anything_that_only_limits_the_proof_is_reported(
    shared: tuple[Namespace, Inspector], name: str
) -> None:
    command, expected = LIMITS[name]
    (finding,) = findings_after(*shared, command)
    assert expected in finding.description
    assert not finding.breaks


@pytest.mark.parametrize("name", HARMLESS)
def test_anything_that_cannot_weaken_the_firewall_is_not_reported(
    shared: tuple[Namespace, Inspector], name: str
) -> None:
    assert findings_after(*shared, HARMLESS[name]) == []


def test_an_unknown_expression_counts_as_breaking() -> None:
    assert effect_of("teleport", {}) is not None
    assert effect_of("teleport", {}).breaks  # type: ignore[union-attr]


LINKS = {
    "bridge": (("link add br0 type bridge", f"link set {PORT} master br0"), "belongs to bridge br0"),
    "bridge with the uplink": (
        ("link add br0 type bridge", f"link set {UPLINK} master br0"),
        f"{UPLINK} belongs to",
    ),
    "macvlan": ((f"link add mv0 link {PORT} type macvlan",), "macvlan mv0 receives frames"),
    "renamed": ((f"link set {PORT} name other0",), f"interface {PORT} was renamed to other0"),
    "exchanged": (
        (f"link set {PORT} name other0", f"link set {UPLINK} name {PORT}", f"link set other0 name {UPLINK}"),
        f"interface {UPLINK} was renamed to {PORT}",
    ),
}


@pytest.mark.parametrize("name", LINKS)
def test_interfaces_that_bypass_the_ruleset_are_detected(name: str) -> None:
    commands, expected = LINKS[name]
    with box() as (here, inspector):
        try:
            here.ip(*commands)
        except subprocess.CalledProcessError:
            pytest.skip("this kernel has no such interfaces")
        assert any(expected in each.description and each.breaks for each in here.run(inspector.inspect))


def test_tc_filters_are_detected_and_an_empty_qdisc_is_not() -> None:
    with box() as (here, inspector):
        here.command("tc", "qdisc", "add", "dev", UPLINK, "clsact")
        assert here.run(inspector.inspect) == []
        redirect = "u32 match u32 0 0 action mirred egress redirect dev lo"
        here.command("tc", *f"filter add dev {UPLINK} egress protocol ip {redirect}".split())
        (finding,) = here.run(inspector.inspect)
        assert finding == NotCovered(
            f"tc filters (egress) process packets at {UPLINK} outside the ruleset", True
        )


def test_policy_routing_rules_are_reported() -> None:
    with box() as (here, inspector):
        here.ip("rule add fwmark 1 lookup 5")
        here.command("ip", "-6", "rule", "add", "fwmark", "1", "lookup", "5")
        assert [(each.description[:21], each.breaks) for each in here.run(inspector.inspect)] == [
            ("a rule of IPv4 policy", False),
            ("a rule of IPv6 policy", False),
        ]


def test_a_device_that_is_recreated_with_its_name_is_not_reported() -> None:
    with box() as (here, inspector):
        here.ip(f"link delete {PORT}", f"link add {PORT} type veth peer name far")
        assert here.run(inspector.inspect) == []


@pytest.mark.parametrize(("entries", "reported"), [(4, False), (5, True)])
def test_legacy_tables_are_reported_if_they_have_rules(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, entries: int, reported: bool
) -> None:
    """A table at three hooks has four entries."""
    names, info = tmp_path / "names", surroundings.IPT_GETINFO
    names.write_text("filter\n")
    monkeypatch.setattr(
        surroundings, "LEGACY_TABLES", {"ip": (str(names), *surroundings.LEGACY_TABLES["ip"][1:])}
    )
    answer = info.pack(b"filter", 0b01110, *[0] * 10, entries, 0)
    monkeypatch.setattr(surroundings, "getsockopt_with_input", lambda *_: answer)
    assert bool(list(legacy_tables())) is reported


def test_the_number_of_rules_of_a_legacy_table_is_read_from_the_kernel() -> None:
    with namespace() as here:

        def count() -> list[NotCovered]:
            import socket

            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                request = b"filter".ljust(surroundings.IPT_GETINFO.size, b"\0")
                try:
                    # the request creates the table
                    surroundings.getsockopt_with_input(sock, socket.IPPROTO_IP, 64, request)
                except OSError:
                    pytest.skip("this kernel has no legacy iptables")
            assert "filter" in Path("/proc/thread-self/net/ip_tables_names").read_text()
            return list(legacy_tables())

        assert here.run(count) == []


def test_the_command_prints_the_changes_that_the_proof_does_not_cover(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with box() as (here, _):
        assert here.run(lambda: main(["fw", "prove", str(FILE)])) == 0
        assert "assumed: " in capfd.readouterr().out
        here.command("nft", "-f", "-", input=LIMITS["mark"][0])
        assert here.run(lambda: main(["fw", "check", str(FILE)])) == 0
        assert "not covered: table inet other, chain c" in capfd.readouterr().out
        here.command("nft", "-f", "-", input=BREAKS["destination behind our chain"][0])
        assert here.run(lambda: main(["fw", "prove", str(FILE), "--json"])) == 1
        document = json.loads(capfd.readouterr().out)
        assert (document["holds"], len(document["not_covered"])) == (False, 2)
        assert here.run(lambda: main(["fw", "check", str(FILE), "--json"])) == 1
        assert "table ip other" in str(json.loads(capfd.readouterr().out)["not_covered"])
