"""Whether the firewall's policy fits the box's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.boxcheck import check_box
from agents.config import ConfigError
from netfw.policyfile import PolicyError
from tests.agents.hierarchy import Hierarchy

BOX = """\
board = "rap-4"
[identity]
certificate = "{certificate}"
key = "{key}"
vendor_authority = "{vendor}"
datacenter_authority = "{public}"
[datacenter]
host = "ingest.example.com"
address = "203.0.113.5"
[[port]]
number = 1
listen = "10.77.1.1"
instruments = ["CHEM-1"]
[firewall]
policy = "firewall.toml"
"""
POLICY = """\
board = "rap-4"
[[authorized]]
role = "datacenter"
addresses = ["203.0.113.5"]
protocol = "tcp"
ports = [443]
[[port]]
number = 1
addresses = ["10.77.1.1/24", "fd00:77:1::1/64"]
services = ["tcp/443"]
"""
PROXY = '[proxy]\nkind = "http"\nhost = "{host}"\nport = 3128\n'


@pytest.fixture
def config(tmp_path: Path, pki: Hierarchy) -> Path:
    names = {
        "certificate": pki.box.certificate,
        "key": pki.box.key,
        "vendor": pki.box_server.authorities,
        "public": pki.box.authorities,
    }
    (tmp_path / "box.toml").write_text(BOX.format(**names))
    (tmp_path / "firewall.toml").write_text(POLICY)
    return tmp_path / "box.toml"


def change(file: Path, right: str, wrong: str) -> None:
    text = file.read_text()
    assert right in text
    file.write_text(text.replace(right, wrong))


def test_what_fits_is_right(config: Path) -> None:
    checked = check_box(config)
    assert checked.policy is not None
    assert checked.policy.uplink == checked.board.uplink


@pytest.mark.parametrize(
    ("right", "wrong", "key", "says"),
    [
        ('"rap-4"', '"rap-8"', "firewall.policy", "the uplink is enp1s0 there, and eno1 on rap-8; give both"),
        ("number = 1", "number = 2", "port[0].number", "port 2 is closed; add a [[port]] with number = 2 in"),
        ("10.77.1.1", "10.77.1.2", "port[0].listen", "port 1, which is 10.77.1.1, fd00:77:1::1 in"),
        ("10.77.1.1", "port1", "port[0].listen", "port1 is not the box's address on port 1, which is 10.77.1.1"),
        ("[[port]]", "[[port]]\ntcp_port = 8443", "port[0].tcp_port", "not among port 1's services, tcp/443, in"),
        ("[[port]]", "[[port]]\ntcp_port = 0", "port[0].tcp_port", "tcp/0 is not among"),
        ("203.0.113.5", "203.0.113.6", "datacenter.address", 'addresses = ["203.0.113.6"], protocol = "tcp", ports'),
        ("203.0.113.5", "2001:db8::5", "datacenter.address", 'role = "datacenter", addresses = ["2001:db8::5"]'),
        ('"203.0.113.5"', '"203.0.113.5"\nport = 444', "datacenter.address", "ports = [444]"),
        ("[[port]]", PROXY.format(host="10.0.0.3") + "[[port]]", "proxy.host", 'role = "proxy", addresses'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_its_key_and_what_would_be_right(
    config: Path, right: str, wrong: str, key: str, says: str
) -> None:
    change(config, right, wrong)
    with pytest.raises(ConfigError) as failed:
        check_box(config)
    assert failed.value.key == key
    assert says in failed.value.message
    assert str(config.parent / "firewall.toml") in failed.value.message


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('address = "203.0.113.5"\n', ""),
        ("[[port]]", PROXY.format(host="proxy.example.com") + "[[port]]"),
        ("10.77.1.1", "fd00:77:1::1"),
        ("10.77.1.1", "fd00:77:1:0::1"),
    ],
)
def test_names_are_not_judged_and_addresses_have_many_spellings(config: Path, right: str, wrong: str) -> None:
    change(config, right, wrong)
    assert check_box(config).policy is not None


def test_a_wrong_policy_is_told_with_its_own_file_and_key(config: Path) -> None:
    change(config.parent / "firewall.toml", "tcp/443", "tcp/0")
    with pytest.raises(PolicyError, match=r"firewall\.toml: port\[0\]\.services\[0\]: tcp/0"):
        check_box(config)


def test_a_policy_that_is_not_there(config: Path) -> None:
    (config.parent / "firewall.toml").unlink()
    with pytest.raises(PolicyError, match=r"firewall\.toml: cannot be read"):
        check_box(config)
