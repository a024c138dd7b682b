"""Every command and option of RHEL 9's kickstart language takes effect, is refused, or is irrelevant to an image."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from pykickstart.sections import PackageSection

from imaging.build import packages
from imaging.build.commands import IGNORED_COMMANDS, handled_commands, plan_of, supported_options
from imaging.build.types import BuildFailed, BuildPlan, UnsupportedCommand
from imaging.kickstart.document import KickstartCommand, KickstartDocument, SourceLocation, read
from imaging.kickstart.handler import new_handler
from tests.support.imaging.sites import CRYPT_HASH, GRUB_HASH, SSH_KEY
from tests.support.imaging.small_system import KICKSTART

OPTION: Final = re.compile(r"(?<![\w-])--[A-Za-z][\w-]*")
HANDLER: Final = new_handler("RHEL9")
QUOTED_HASH: Final = f"'{CRYPT_HASH}'"
STATIC: Final = "network --device=enp1s0 --bootproto=static --ip=192.0.2.1 --netmask=255.255.255.0"
EFFECTS: Final = {
    "bootloader": {
        "--append": ("bootloader --location=mbr", "--append=quiet"),
        "--password": ("bootloader --location=mbr", f"--iscrypted --password={GRUB_HASH}"),
        "--timeout": ("bootloader --location=mbr", "--timeout=9"),
    },
    "firewall": {
        "--disable": ("firewall", "--disable"),
        "--disabled": ("firewall", "--disabled"),
        "--port": ("firewall --enabled", "--port=1:tcp"),
        "--remove-service": ("firewall --enabled", "--remove-service=ssh"),
        "--service": ("firewall --enabled", "--service=https"),
    },
    "keyboard": {
        "--vckeymap": ("keyboard us", "--vckeymap=de"),
        "--xlayouts": ("keyboard --xlayouts=us", "--xlayouts=de"),
    },
    "network": {
        "--bootproto": (
            "network --device=enp1s0",
            "--bootproto=static --ip=192.0.2.1 --netmask=255.255.255.0",
        ),
        "--device": ("network --hostname=a", "--device=enp1s0"),
        "--gateway": (STATIC, "--gateway=192.0.2.9"),
        "--hostname": (STATIC, "--hostname=a"),
        "--ip": (STATIC, "--ip=192.0.2.2"),
        "--nameserver": (STATIC, "--nameserver=192.0.2.9"),
        "--netmask": (STATIC, "--netmask=255.255.0.0"),
        "--nodefroute": (STATIC, "--nodefroute"),
        "--noipv6": (STATIC, "--noipv6"),
        "--onboot": (STATIC, "--onboot=no"),
    },
    "part": {
        "--fsoptions": ("part /srv --fstype=ext4 --size=9", "--fsoptions=ro"),
        "--fstype": ("part /srv --fstype=ext4 --size=9", "--fstype=efi"),
        "--grow": ("part /srv --fstype=ext4 --size=9", "--grow"),
        "--label": ("part /srv --fstype=ext4 --size=9", "--label=srv"),
        "--size": ("part /srv --fstype=ext4 --size=9", "--size=10"),
    },
    "repo": {
        "--baseurl": ("repo --name=a --install", "--baseurl=https://b"),
        "--install": ("repo --name=a --baseurl=https://b", "--install"),
        "--metalink": ("repo --name=a --install", "--metalink=https://b"),
        "--mirrorlist": ("repo --name=a --install", "--mirrorlist=https://b"),
        "--name": ("repo --install --name=a --baseurl=https://b", "--name=c"),
        "--noverifyssl": ("repo --name=a --install --baseurl=https://b", "--noverifyssl"),
        "--proxy": ("repo --name=a --install --baseurl=https://b", "--proxy=http://c:3128"),
    },
    "rootpw": {
        "--allow-ssh": ("rootpw --lock", "--allow-ssh"),
        "--iscrypted": ("rootpw --lock", f"--iscrypted {QUOTED_HASH}"),
        "--lock": (f"rootpw --iscrypted {QUOTED_HASH}", "--lock"),
    },
    "selinux": {
        "--disabled": ("selinux --enforcing", "--disabled"),
        "--enforcing": ("selinux --permissive", "--enforcing"),
        "--permissive": ("selinux --enforcing", "--permissive"),
    },
    "services": {
        "--disabled": ("services --enabled=a", "--disabled=b"),
        "--enabled": ("services --disabled=a", "--enabled=b"),
    },
    "sshkey": {"--username": (f'sshkey --username=a "{SSH_KEY}"', "--username=b")},
    "timesource": {"--ntp-server": ("timesource --ntp-server=a", "--ntp-server=b")},
    "timezone": {"--isUtc": ("timezone Etc/UTC", "--isUtc"), "--utc": ("timezone Etc/UTC", "--utc")},
    "user": {
        "--gecos": ("user --name=a", "--gecos=A"),
        "--gid": ("user --name=a", "--gid=1500"),
        "--groups": ("user --name=a", "--groups=wheel"),
        "--homedir": ("user --name=a", "--homedir=/srv/a"),
        "--lock": ("user --name=a", "--lock"),
        "--name": ("user --name=a", "--name=b"),
        "--password": ("user --name=a --iscrypted", f"--password={QUOTED_HASH}"),
        "--shell": ("user --name=a", "--shell=/bin/sh"),
        "--uid": ("user --name=a", "--uid=1500"),
    },
}
"""For each option: a line, and the text to append to it; the plans of the line with and without it must differ."""

FIXED: Final = {
    "clearpart": "an image begins empty, and is one disk with a GPT",
    "bootloader --location --boot-drive --iscrypted": "the only supported form",
    "part --ondisk": "an image is one disk",
    "network --activate": "it is for the installer's own system",
    "firewall --enabled --enable --ssh": "the default",
    "user --iscrypted": "the only supported form",
    "authselect --force --nobackup": "the arguments are passed on",
}
"""Options with only one supported value, or without an effect after the installation."""


def plan(folder: Path, line: str = "", text: str = KICKSTART) -> BuildPlan:
    """Return the build plan of a kickstart to which `line` is added; it replaces a command that may be given once."""
    path = folder / "box.ks"
    name = line.partition(" ")[0]
    replaced = name in ("bootloader", "rootpw", "keyboard", "selinux")
    kept = [each for each in text.splitlines(True) if not (replaced and each.startswith(f"{name} "))]
    path.write_text("".join(kept).replace("text\n", f"text\n{line}\n", 1))
    return plan_of(read(path, "RHEL9"))


def options() -> Iterator[tuple[str, str]]:
    """Yield every option of every command of the language, as listed in the parsers' help."""
    for name, command in sorted(HANDLER.commands.items()):
        if hasattr(command, "op"):
            yield from ((name, option) for option in dict.fromkeys(OPTION.findall(command.op.format_help())))


def fixed(name: str) -> set[str]:
    """Return the options of a command that are in `FIXED`."""
    name = "part" if name == "partition" else name
    return {option for entry in FIXED if entry.split()[0] == name for option in entry.split()[1:]}


def test_the_language_has_more_than_250_options() -> None:
    assert len(list(options())) > 250


@pytest.mark.parametrize(("name", "option"), list(options()))
def test_an_option_is_supported_or_refused(tmp_path: Path, name: str, option: str) -> None:
    command = KickstartCommand(SourceLocation(7, "box.ks"), name, (option,), None)
    if option not in supported_options(name):
        with pytest.raises(UnsupportedCommand, match=r"^box\.ks:7: "):
            plan_of(KickstartDocument(tmp_path, "RHEL9", commands=[command]))
    elif name in handled_commands() and not (name == "clearpart" or option in fixed(name)):
        assert option in EFFECTS["part" if name == "partition" else name]


@pytest.mark.parametrize(
    ("line", "more"),
    [pair for table in EFFECTS.values() for pair in table.values()],
    ids=lambda text: text[:60],
)
def test_a_supported_option_changes_the_plan(tmp_path: Path, line: str, more: str) -> None:
    assert repr(plan(tmp_path, f"{line} {more}")) != repr(plan(tmp_path, line))


def test_no_command_is_both_ignored_and_handled() -> None:
    assert not set(handled_commands()) & set(IGNORED_COMMANDS)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("repo --name=a --baseurl=https://b --excludepkgs=nano", "repo --excludepkgs"),
        ("repo --name=a --baseurl=https://b --includepkgs=nano", "repo --includepkgs"),
        ("repo --name=a --baseurl=https://b --cost=3", "repo --cost"),
        ("firstboot --enable", "firstboot --enable"),
        ("keyboard --xlayouts=us,de", "has one layout; name one"),
        ("network --device=link --bootproto=dhcp", "write the port's name"),
        ("network --device=02:00:00:00:00:01 --bootproto=dhcp", "write the port's name"),
        ("network --bootproto=dhcp", "needs --device"),
        ("network --device=enp1s0 --bootproto=dhcp --ip=192.0.2.1", "network --ip: needs --bootproto=static"),
        ("network --device=enp1s0 --bootproto=ibft", "write dhcp or static"),
        ("user --name=a --groups=wheel(10)", "write the name without a number"),
        (
            "part /srv --fstype=ext4 --size=9 --ondisk=sda\npart /opt --fstype=ext4 --size=9 --ondisk=sdb",
            "single disk",
        ),
    ],
)
def test_an_unsupported_value_is_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UnsupportedCommand, match=rf"box\.ks:\d+: .*{re.escape(message)}"):
        plan(tmp_path, line)


@pytest.mark.parametrize(
    ("line", "keymap"),
    [
        ("keyboard de", "de"),
        ("keyboard --xlayouts='cz (qwerty)'", "cz-qwerty"),
        ("keyboard --vckeymap=fr --xlayouts=us", "fr"),
    ],
)
def test_the_console_has_the_layout_of_the_kickstart(tmp_path: Path, line: str, keymap: str) -> None:
    assert f"KEYMAP={keymap}\\n" in repr(plan(tmp_path, line).actions)


# ---- %packages ----

SECTION_EFFECTS: Final = {
    "--excludedocs": "tsflags=nodocs",
    "--exclude-weakdeps": "install_weak_deps=0",
    "--excludeWeakdeps": "install_weak_deps=0",
    "--multilib": "multilib_policy=all",
    "--ignoremissing": "strict=0",
    "--timeout=7": "timeout=7",
    "--retries=7": "retries=7",
}
SECTION_REFUSED: Final = ("--default", "--ignorebroken")
SECTION_OTHERS: Final = ("--nocore", "--inst-langs", "--instLangs")
SECTION_REMOVED: Final = ("--nobase", "--resolvedeps", "--ignoredeps")


def section(folder: Path, options: str = "", lines: str = "@core\n") -> Any:
    """Return the plan of a %packages section with these options and lines."""
    start, end = KICKSTART.index("%packages"), KICKSTART.index("%end", KICKSTART.index("%packages"))
    text = f"{KICKSTART[:start]}%packages {options}\n{lines}{KICKSTART[end:]}"
    return plan(folder, text=text).packages


def dnf(folder: Path, monkeypatch: pytest.MonkeyPatch, planned: Any) -> list[str]:
    """Return the command line with which dnf would install the planned packages."""
    arguments: list[str] = []

    def run(_root: Path, command: Any, _environment: Any, _log: Any) -> None:
        arguments.extend(map(str, command))
        raise BuildFailed("")

    monkeypatch.setattr(packages, "run_over", run)
    (root := folder / "tree").mkdir()
    with pytest.raises(BuildFailed):
        packages.install(root, planned, [], ["/repository"], 0, print)
    return arguments


def test_every_option_of_the_packages_section_is_known() -> None:
    parsed = set(re.findall(r'"(--[A-Za-z-]+)"', inspect.getsource(PackageSection)))
    assert "--exclude-weakdeps" in parsed
    known = {
        *(option.partition("=")[0] for option in SECTION_EFFECTS),
        *SECTION_REFUSED,
        *SECTION_OTHERS,
        *SECTION_REMOVED,
    }
    assert parsed - known == set()


@pytest.mark.parametrize("option", SECTION_REMOVED)
def test_an_option_that_the_language_no_longer_has_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(UnsupportedCommand, match="unrecognized arguments"):
        section(tmp_path, option)


@pytest.mark.parametrize(("option", "setting"), SECTION_EFFECTS.items())
def test_an_option_of_the_packages_section_is_passed_to_dnf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, setting: str
) -> None:
    try:
        planned = section(tmp_path, option)
    except UnsupportedCommand as error:  # a spelling that was removed from the language
        assert option.partition("=")[0] in str(error) or "unrecognized" in str(error)
        return
    assert f"--setopt={setting}" in dnf(tmp_path, monkeypatch, planned)


def test_documentation_is_installed_unless_it_is_excluded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = dnf(tmp_path, monkeypatch, section(tmp_path))
    assert not [argument for argument in arguments if "nodocs" in argument]


@pytest.mark.parametrize(
    ("options", "lines", "message"),
    [
        ("", "@core\n-@guest-agents\n", "-@GROUP"),
        ("", "@core --optional\n", "@GROUP --optional"),
        ("", "@core --nodefaults\n", "@GROUP --optional and --nodefaults"),
        ("--default", "", "--default"),
    ],
)
def test_an_entry_that_dnf_cannot_apply_is_refused(
    tmp_path: Path, options: str, lines: str, message: str
) -> None:
    with pytest.raises(UnsupportedCommand, match=rf"box\.ks:\d+: %packages {message}"):
        section(tmp_path, options, lines)
