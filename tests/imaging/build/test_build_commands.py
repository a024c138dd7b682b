"""Every kickstart command and option is supported, has no effect on an image, or stops the build."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.build.boot.bootloader import write_menu
from imaging.build.boot.slot_script import ARGUMENTS, SLOT_SCRIPT
from imaging.build.commands import IGNORED_COMMANDS, handled_commands, plan_of
from imaging.build.partitions import place_partitions
from imaging.build.types import BuildPlan, DiskIds, UnsupportedCommand, Write
from imaging.kickstart.data import MIB
from imaging.kickstart.document import read
from imaging.kickstart.handler import new_handler
from tests.support.imaging.sites import GRUB_HASH
from tests.support.imaging.small_system import KICKSTART
from trust.facts.system import facts
from trust.machine import Files

IDS = DiskIds({"/": "root-uuid", "/boot": "boot-uuid"}, {"rap-identity": "identity-uuid"})


def _plan(tmp_path: Path, text: str) -> BuildPlan:
    (tmp_path / "box.ks").write_text(text)
    return plan_of(read(tmp_path / "box.ks", "RHEL9"))


@pytest.mark.parametrize(
    "name", sorted(set(new_handler("RHEL9").commands) - set(handled_commands()) - set(IGNORED_COMMANDS))
)
def test_an_unsupported_command_stops_the_build(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedCommand, match=r"box\.ks:\d+: "):
        _plan(tmp_path, KICKSTART.replace("text\n", f"{name}\n", 1))


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("--fstype=ext4 --size=16\n", "--fstype=xfs --size=16\n", "fstype=xfs"),
        (
            "--fstype=ext4 --size=16\n",
            "--fstype=ext4 --size=16 --encrypted --passphrase=x\n",
            "part --encrypted",
        ),
        ("--fstype=ext4 --size=16\n", "--fstype=ext4 --size=16 --asprimary\n", "part --asprimary"),
        ("--disklabel=gpt", "--disklabel=msdos", "only --disklabel=gpt"),
        ("rootpw --lock", "rootpw secret", "plaintext"),
        ("user --name=someone --lock", "user --name=someone --plaintext --password=x", "--plaintext"),
        ("%post --erroronfail", "%post --nochroot --erroronfail", "%post --nochroot"),
        ("%pre\n", "%addon com_redhat_oscap\n", "com_redhat_oscap"),
        ("text\n", "%include /tmp/made-there.ks\n", "%include"),
        ("text\n", "nosuchcommand\n", "nosuchcommand"),
        ("part /boot --", "part /srv --", "part /boot"),
        ("--bootproto=dhcp", "--bootproto=dhcp --bondslaves=a,b", "--bondslaves"),
    ],
)
def test_an_unsupported_option_stops_the_build(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    assert right in KICKSTART
    with pytest.raises(UnsupportedCommand, match=message):
        _plan(tmp_path, KICKSTART.replace(right, wrong, 1))


def test_each_ignored_command_is_listed_with_its_reason(tmp_path: Path) -> None:
    assert set(_plan(tmp_path, KICKSTART).ignored) == {"text", "%pre"}


def test_ports_are_written_as_networkmanager_connections(tmp_path: Path) -> None:
    line = "network --device=enp2s0 --bootproto=static --ip=10.77.1.1 --netmask=255.255.255.0 --nodefroute --noipv6\n"
    files = {
        action.path: action
        for action in _plan(tmp_path, KICKSTART.replace("text\n", line, 1)).actions
        if isinstance(action, Write)
    }
    keyfile = files["/etc/NetworkManager/system-connections/enp2s0.nmconnection"]
    assert keyfile.mode == 0o600
    assert {"address1=10.77.1.1/24", "never-default=true", "method=disabled"} <= set(
        keyfile.text.splitlines()
    )


def test_growing_partitions_share_the_remaining_space(tmp_path: Path) -> None:
    plan = _plan(tmp_path, KICKSTART)
    *_, last = place_partitions(plan, plan.disk_bytes + 100 * MIB)
    assert (last.partition.mount, last.length) == ("/var", 116 * MIB)
    assert last.offset + last.length + MIB == plan.disk_bytes + 100 * MIB


def test_the_boot_password_is_in_the_file_that_the_menu_reads(tmp_path: Path) -> None:
    """It is in the file that grub2-setpassword(8) changes (RHEL-09-212010), and nowhere else."""
    for folder in ("boot/efi/EFI", "etc"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "boot/vmlinuz-1").touch()
    write_menu(tmp_path, BuildPlan(boot_password_hash=GRUB_HASH), IDS)
    user, menu = (tmp_path / "boot/grub2" / name for name in ("user.cfg", "grub.cfg"))
    assert user.read_text() == f"GRUB2_PASSWORD={GRUB_HASH}\n"
    assert user.stat().st_mode & 0o777 == menu.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "etc/grub2.cfg").resolve() == menu.resolve()
    text = menu.read_text()
    assert GRUB_HASH not in text
    offsets = [
        text.index(line)
        for line in ('set superusers="boxkeeper"', "source $prefix/user.cfg", "$GRUB2_PASSWORD")
    ]
    assert offsets == sorted(offsets)


def test_papers_of_an_image_have_the_kernel_options_of_a_started_box(tmp_path: Path) -> None:
    """A started box has them in /proc/cmdline, as the slot's script passed them to the kernel."""
    for folder in ("boot", "etc"):
        (tmp_path / folder).mkdir()
    (tmp_path / "boot/vmlinuz-1").touch()
    write_menu(tmp_path, BuildPlan(kernel_arguments="audit=1 fips=1"), IDS)
    (line,) = [one for one in (tmp_path / SLOT_SCRIPT).read_text().splitlines() if one.startswith("linux ")]
    arguments = line.split(maxsplit=2)[2].replace(f"${ARGUMENTS}", "root=PARTUUID=7 ro rap.slot=a")
    running = Files(tmp_path, runs=False, own={"proc/cmdline": f"BOOT_IMAGE=/boot/vmlinuz-1 {arguments}\n"})
    image, box = ({one.key: one.values for one in facts(of)} for of in (Files(tmp_path, runs=False), running))
    assert image["system.kernel-options"] == box["system.kernel-options"]
    assert {"fips=1", "panic=10", "rd.shell=0"} <= set(image["system.kernel-options"])


def test_a_menu_without_a_password_reads_none(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    (tmp_path / "etc").mkdir()
    write_menu(tmp_path, BuildPlan(), IDS)
    assert "user.cfg" not in (tmp_path / "boot/grub2/grub.cfg").read_text()
    assert not (tmp_path / "boot/grub2/user.cfg").exists()
