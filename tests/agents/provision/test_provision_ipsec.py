"""Provisioning of a site with an IPsec VPN; libreswan's own parsers check the generated configuration."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agents.provision.ipsec import CONFIGURATION, ESP, IKE, SECRETS
from agents.provision.main import provision
from netfw.policy.policyfile import load_policy
from settings.problems import SettingsError
from tests.support.imaging.sites import PROVISIONED_SITE, system_tree

LIBRESWAN = (Path("/usr/local/lib/libreswan/usr/libexec/ipsec"), Path("/usr/libexec/ipsec"))
SECRET = "correct-horse-battery-staple"
VPN = f"""
[ipsec]
gateway = "198.51.100.1"
gateway_identity = "vpn.example.com"
networks = ["203.0.113.0/24", "192.0.2.0/25"]
secret = "{SECRET}"

[addresses]"""
SITE = PROVISIONED_SITE.replace("\n[addresses]", VPN)


def libreswan(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder = next(path for path in LIBRESWAN if path.exists())
    return subprocess.run([folder / program, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with the package's units, and the site file beside it."""
    (tmp_path / "site.toml").write_text(SITE)
    return system_tree(tmp_path / "root")


@pytest.mark.parametrize("identities", [True, False])
def test_libreswan_accepts_the_configuration(root: Path, identities: bool) -> None:
    if not identities:
        (root.parent / "site.toml").write_text(SITE.replace('gateway_identity = "vpn.example.com"\n', ""))
    provision(root.parent / "site.toml", root)
    result = libreswan("addconn", "--checkconfig", "--config", str(root / CONFIGURATION))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    text = (root / CONFIGURATION).read_text()
    assert "right=198.51.100.1\n" in text
    assert ("rightid=@vpn.example.com\n" in text) == identities
    assert "rightsubnets={203.0.113.0/24 192.0.2.0/25}\n" in text


def test_libreswans_check_finds_an_invalid_configuration(root: Path) -> None:
    provision(root.parent / "site.toml", root)
    file = root / CONFIGURATION
    file.write_text(file.read_text().replace("ikev2=insist", "ikev2=insits"))
    assert libreswan("addconn", "--checkconfig", "--config", str(file)).returncode != 0


def test_all_algorithms_are_permitted_in_fips_mode() -> None:
    for proposals in (f"ike={IKE}", f"esp={ESP}"):
        result = libreswan("algparse", "-fips", "-v2", "-pfs", proposals)
        assert result.returncode == 0, result.stdout
        assert result.stdout.count("AES_GCM_16_") == proposals.count("aes_gcm")
    assert libreswan("algparse", "-fips", "-v2", "-pfs", "ike=3des-sha1-dh2").returncode != 0


def test_the_secret_is_readable_by_root_alone(root: Path) -> None:
    provision(root.parent / "site.toml", root)
    assert (root / SECRETS).stat().st_mode & 0o777 == 0o600
    assert (root / SECRETS).read_text().splitlines()[1] == f'%any @vpn.example.com : PSK "{SECRET}"'
    readable = [path for path in root.rglob("*") if path.is_file() and path.stat().st_mode & 0o044]
    assert readable and not [path for path in readable if SECRET in path.read_text(errors="replace")]


def test_the_firewall_permits_nothing_outside_the_vpn_but_its_gateway(root: Path) -> None:
    provision(root.parent / "site.toml", root)
    policy = load_policy(root / "etc/rap/firewall.toml")
    assert policy.vpn == "ipsec1"
    gateways = [entry for entry in policy.authorized if entry.role == "gateway"]
    assert [str(network) for entry in gateways for network in entry.networks] == ["198.51.100.1/32"]


def test_a_site_that_no_longer_has_a_vpn_loses_its_files(root: Path) -> None:
    provision(root.parent / "site.toml", root)
    (root.parent / "site.toml").write_text(PROVISIONED_SITE)
    changed = provision(root.parent / "site.toml", root)
    assert {CONFIGURATION, SECRETS} <= set(changed)
    assert not (root / CONFIGURATION).exists() and not (root / SECRETS).exists()
    assert not load_policy(root / "etc/rap/firewall.toml").vpn


@pytest.mark.parametrize(
    ("before", "after", "key", "message"),
    [
        ('"198.51.100.1"', '"vpn.example.com"', "ipsec.gateway", "addresses are missing"),
        ('"198.51.100.1"', '"203.0.113.1"', "ipsec.gateway", "203.0.113.1 is in `networks`"),
        ('"203.0.113.0/24"', '"203.0.113.9/24"', "ipsec.networks[0]", "write it like 203.0.113.0/24"),
        (', "192.0.2.0/25"', "", "time_servers[1]", "192.0.2.123 is not in ipsec.networks"),
        ('"203.0.113.0/24"', '"203.0.113.7/32"', "datacenter.host", "203.0.113.5, 203.0.113.6 is not in"),
        (SECRET, "short", "ipsec.secret", "24-to-128"),
        (SECRET, "with-a-\\\\-backslash-in-between", "ipsec.secret", "24-to-128"),
        ('"vpn.example.com"', '"@vpn"', "ipsec.gateway_identity", "vpn.clinic.example"),
    ],
)
def test_contradictions_are_reported_and_change_nothing(
    root: Path, before: str, after: str, key: str, message: str
) -> None:
    (root.parent / "site.toml").write_text(SITE.replace(before, after, 1))
    with pytest.raises(SettingsError, match=re.escape(message)) as caught:
        provision(root.parent / "site.toml", root)
    assert key in str(caught.value)
    assert SECRET not in str(caught.value)
    assert not (root / CONFIGURATION).exists()


def test_the_unit_starts_after_the_firewall_and_only_with_a_vpn(root: Path) -> None:
    units = root / "usr/lib/systemd/system"
    assert shutil.which("systemd-analyze")
    drop_in = (units / "ipsec.service.d/10-rap.conf").read_text()
    assert "After=rap-firewall.service" in drop_in
    assert f"ConditionPathExists=/{CONFIGURATION}\n" in drop_in
