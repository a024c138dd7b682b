"""Variants of the box's kickstart that are valid, but in which an earlier version of a rule reported an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.kickstart.lint import lint
from tests.support.imaging.kickstarts import good

HOME = 'part /home --fstype="ext4" --ondisk=sda --size=512 --label="home" --fsoptions="nodev,nosuid,noexec"'
TMP = 'part /tmp --fstype="ext4" --ondisk=sda --size=1024 --label="tmp" --fsoptions="nodev,nosuid,noexec"'
RAID = "part raid.01 --ondisk=sda --size=3000\npart raid.02 --ondisk=sda --size=3000\n"
HOME_LV = 'logvol /home --vgname=box --name=home --size=1024 --fstype=ext4 --fsoptions="nodev,nosuid,noexec"'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (TMP, 'part /tmp --fstype=tmpfs --size=1024 --fsoptions="size=1g,nodev,nosuid,noexec"'),
        (HOME, f"{RAID}raid pv.01 --level=1 --device=md0 raid.01 raid.02\nvolgroup box pv.01\n{HOME_LV}"),
        (
            HOME,
            f"part pv.01 --ondisk=sda --size=4000\nvolgroup box pv.01\n"
            f"logvol none --vgname=box --name=pool --thinpool --size=2000\n{HOME_LV} --thin --poolname=pool",
        ),
        (HOME, HOME.replace("ext4", "xfs").replace("512", "300")),
        (HOME, HOME.replace('"ext4"', '"xfs" --grow').replace("512", "10")),
        (HOME, HOME.replace('="home"', '="sixteen-letters1"')),
        (HOME, HOME.replace("noexec", "noexec,x-systemd.growfs,context=system_u:object_r:home_t:s0,discard")),
        ("--boot-drive=sda", "--boot-drive=/dev/sda"),
        ("-gssproxy\n", "-gssproxy\n-kernel\nkernel-rt\n"),
        ("--netmask=255.255.255.0 --nodefroute", "--netmask=255.255.255.254 --nodefroute --mtu=68"),
        ("--hostname=rap-box", f"--hostname={'a' * 31}.{'b' * 32}"),
        ("lang en_US.UTF-8", "lang de_DE.UTF-8@euro --addsupport=cs_CZ.UTF-8"),
        ('--xlayouts="us"', "--vckeymap=de-nodeadkeys --xlayouts='cz (qwerty)','us'"),
        ("firewall --enabled", "firewall --enabled --service=ssh,https --port=1-65535:udp,8443:tcp"),
    ],
)
def test_a_valid_kickstart_has_no_error(tmp_path: Path, old: str, new: str) -> None:
    text = good("", "almalinux9")
    assert old in text
    kickstart = tmp_path / "box.ks"
    kickstart.write_text(text.replace(old, new))
    assert [finding for finding in lint(kickstart).findings if finding.severity == "error"] == []
