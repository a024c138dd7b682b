"""The package's systemd units are sandboxed, valid and ordered correctly."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agents.provision.box import FIREWALL_SOCKET
from agents.provision.main import NETWORK_AFTER_FIREWALL
from imaging.rpm.contents import RECIPE
from netfw.service.main import make_parser

UNITS = sorted((RECIPE / "root/usr/lib/systemd/system").glob("*.service"))
HTTPD = shutil.which("httpd") or shutil.which("apache2", path="/usr/sbin")
EXPOSURE_MAX = 2.0
FORMATS_DISKS = "rap-volumes"
"""A unit that cannot be sandboxed: it formats and mounts partitions before other units start."""


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize(
    "unit", [unit for unit in UNITS if unit.stem != FORMATS_DISKS], ids=lambda unit: unit.stem
)
def test_each_unit_is_sandboxed(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=True,
    )
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert exposure
    assert float(exposure[1]) <= EXPOSURE_MAX
    assert "Unknown" not in done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for unit in [*UNITS, *UNITS[0].parent.glob("*.socket")]:
        text = unit.read_text().replace("/usr/bin/rap", "/bin/true")
        text = re.sub(r"/usr/libexec/rap/\S+|/usr/sbin/restorecon", "/bin/true", text)
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "rap-" not in done.stderr, done.stderr
    assert done.returncode == 0


def test_early_units_with_private_devices_start_after_tmp_is_mounted() -> None:
    """systemd 252 prepares a private /dev in /tmp, which fails before /tmp is mounted: the root is read-only."""
    early = [
        unit
        for unit in UNITS
        if {"DefaultDependencies=no", "PrivateDevices=yes"} <= set(unit.read_text().splitlines())
    ]
    unordered = [
        unit.stem
        for unit in early
        if not re.search(
            r"^(After=.*\btmp\.mount|RequiresMountsFor=.*/tmp)\b", unit.read_text(), re.MULTILINE
        )
    ]
    assert early and not unordered


def test_units_that_use_cryptography_can_read_the_kernels_fips_mode() -> None:
    """RHEL's OpenSSL selects its FIPS provider by /proc/sys, which `ProcSubset=pid` hides."""
    without = {"rap-audit", "rap-clock", "rap-tunnel"}
    hidden = {unit.stem for unit in UNITS if re.search(r"^ProcSubset=pid$", unit.read_text(), re.MULTILINE)}
    assert hidden == without, "only units without keys, hashes and TLS may hide it"


def test_only_the_firewall_and_tunnel_services_may_change_the_network() -> None:
    """No unit requires the firewall service, because systemd would restart the unit together with it."""
    texts = {unit.stem: unit.read_text() for unit in UNITS}
    having = {name for name, text in texts.items() if re.search(r"^\w+=.*CAP_NET_ADMIN", text, re.MULTILINE)}
    assert having == {"rap-firewall", "rap-tunnel"}
    for text in texts.values():
        assert not re.search(r"^(Requires|BindsTo|PartOf|Requisite)=.*rap-firewall", text, re.MULTILINE)


def test_only_the_firewall_service_has_a_higher_priority() -> None:
    """It has a higher priority as a process and as a control group, whose default weight is 100."""
    texts = {unit.stem: unit.read_text() for unit in UNITS}
    assert {name for name, text in texts.items() if re.search(r"^Nice=-\d+$", text, re.MULTILINE)} == {
        "rap-firewall"
    }
    assert {name for name, text in texts.items() if re.search(r"^CPUWeight=\d{4}$", text, re.MULTILINE)} == {
        "rap-firewall"
    }


def test_the_firewall_unit_starts_with_the_paths_that_other_units_expect() -> None:
    unit = next(unit for unit in UNITS if unit.stem == "rap-firewall").read_text()
    [start] = re.findall(r"^ExecStart=\S+ (.+)$", unit, re.MULTILINE)
    arguments = make_parser().parse_args(start.split())
    assert f"AssertPathExists={arguments.ready}" in NETWORK_AFTER_FIREWALL
    assert arguments.user == ["rap"]
    assert arguments.policy == Path("/etc/rap/firewall.toml")
    assert arguments.socket == FIREWALL_SOCKET


def test_no_condition_can_skip_the_firewall_service() -> None:
    """A unit whose condition fails counts as started, so the network would start without the firewall."""
    unit = next(unit for unit in UNITS if unit.stem == "rap-firewall").read_text()
    lines = [line for line in unit.splitlines() if not line.startswith("#")]
    assert not [line for line in lines if line.startswith("Condition")]
    assert "Before=network-pre.target shutdown.target" in lines


@pytest.mark.parametrize("target", ["emergency", "multi-user", "sysinit"])
def test_units_without_a_preset_are_wanted_by_the_target_they_name(target: str) -> None:
    links = list((UNITS[0].parent / f"{target}.target.wants").iterdir())
    assert links
    for link in links:
        unit = link.resolve(strict=True)
        assert unit.parent == UNITS[0].parent
        assert f"WantedBy={target}.target" in unit.read_text() or unit.stem == FORMATS_DISKS
