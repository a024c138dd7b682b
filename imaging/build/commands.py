"""The effect of each kickstart command on an image: one function per command, found by name.

    @handles("timezone", "--utc")
    def _timezone(command: KickstartCommand, plan: BuildPlan) -> None: ...

The decorator names every option that the function supports; a command with another option is an error, and nothing is
built. Commands that only control the installer are in `IGNORED_COMMANDS`, each with the reason. The functions only
add to the plan; they change no disk. Anaconda's implementation of the commands is in `pyanaconda/modules`.
"""

from __future__ import annotations

import configparser
import io
import re
import uuid
from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any, Final, TypeAlias

from imaging.build.packages import check_section
from imaging.build.types import (
    BuildPlan,
    ImagePartition,
    Script,
    SymbolicLink,
    SystemCommand,
    UnsupportedCommand,
    Write,
)
from imaging.kickstart.document import KickstartCommand, KickstartDocument, Section

CommandHandler: TypeAlias = Callable[[KickstartCommand, BuildPlan], None]

_SCREENS: Final = "an image is built without the installer's screens"
_NO_MACHINE: Final = "there is no running machine to stop"
_SOURCE: Final = "packages come from the repositories given to the builder"
_EXAMINES: Final = "it examines the machine to be installed, which does not exist when an image is built"
_SOURCE_OPTIONS: Final = (
    *("--url", "--mirrorlist", "--metalink", "--proxy", "--noverifyssl"),
    *("--sslcacert", "--sslclientcert", "--sslclientkey"),
)

IGNORED_COMMANDS: Final = {
    "text": _SCREENS,
    "graphical": _SCREENS,
    "cmdline": _SCREENS,
    "eula": "only the installer shows the license agreement",
    "firstboot": "an image has no first-boot agent that could be disabled",
    "reboot": _NO_MACHINE,
    "poweroff": _NO_MACHINE,
    "shutdown": _NO_MACHINE,
    "halt": _NO_MACHINE,
    "cdrom": _SOURCE,
    "url": _SOURCE,
    "zerombr": "an image begins empty",
    "ignoredisk": "an image is a single disk, which has no name yet",
    "%pre": _EXAMINES,
    "%pre-install": _EXAMINES,
    "%onerror": "it handles errors of the installer",
    "%traceback": "it handles errors of the installer",
    "%addon com_redhat_kdump": "kernel dumps are installed only if %packages names their package",
}
"""Commands and sections without an effect on the installed system, each with the reason."""

IGNORED_OPTIONS: Final = {
    "text": ("--non-interactive",),
    "graphical": ("--non-interactive",),
    "cmdline": ("--non-interactive",),
    "eula": ("--agreed", "--accepted"),
    "firstboot": ("--disable", "--disabled"),
    **dict.fromkeys(("reboot", "poweroff", "shutdown", "halt"), ("--eject", "--kexec")),
    "url": _SOURCE_OPTIONS,
    "ignoredisk": ("--drives", "--only-use"),
}
"""The options of an ignored command to which its reason applies; with another option, the command is unsupported."""

_handlers: dict[str, tuple[CommandHandler, frozenset[str]]] = {}


def handles(name: str, *options: str) -> Callable[[CommandHandler], CommandHandler]:
    """Register a function as the handler of the command `name` with these options."""

    def register(function: CommandHandler) -> CommandHandler:
        assert name not in _handlers and name not in IGNORED_COMMANDS, f"{name} has two handlers"
        _handlers[name] = (function, frozenset(options))
        return function

    return register


def handled_commands() -> list[str]:
    """Return the names of all supported commands."""
    return sorted(_handlers)


def supported_options(name: str) -> tuple[str, ...]:
    """Return the options of a command that have an effect or are ignored; every other option is an error."""
    return tuple(sorted(_handlers[name][1])) if name in _handlers else IGNORED_OPTIONS.get(name, ())


def plan_of(ks: KickstartDocument) -> BuildPlan:
    """Return the build plan of a kickstart. Raises: UnsupportedCommand, for the first unsupported line."""
    if ks.refusals:
        refusal = next((r for r in ks.refusals if not r.deprecated), ks.refusals[0])
        if not refusal.deprecated:
            raise UnsupportedCommand(
                refusal.location, f"{refusal.word}: {refusal.message}; see `rap image ks --check`"
            )
    if ks.missing_includes or ks.open_ended:
        location = ks.missing_includes[0][0] if ks.missing_includes else ks.top
        raise UnsupportedCommand(
            location, "%include: the file is generated during the installation; include its content instead"
        )
    plan = BuildPlan(packages=ks.packages)
    for command in ks.commands:
        _add_command(command, plan)
    for section in ks.sections:
        _add_section(section, plan)
    _check_required(ks, plan)
    return plan


def _add_command(command: KickstartCommand, plan: BuildPlan) -> None:
    if command.name not in _handlers and command.name not in IGNORED_COMMANDS:
        raise UnsupportedCommand(
            command.location, f"{command.name}: `rap image build` does not support this command; leave it out"
        )
    options = supported_options(command.name)
    for argument in command.arguments:
        option = argument.partition("=")[0]
        if option.startswith("--") and option not in options:
            raise UnsupportedCommand(
                command.location,
                f"{command.name} {option}: is not supported for images; "
                f"the supported options are: {', '.join(options) or 'none'}",
            )
    if command.name in IGNORED_COMMANDS:
        plan.ignored[command.name] = IGNORED_COMMANDS[command.name]
    else:
        _handlers[command.name][0](command, plan)


def _add_section(section: Section, plan: BuildPlan) -> None:
    name = (
        f"{section.name} {section.arguments[0]}"
        if section.name == "%addon" and section.arguments
        else section.name
    )
    if section.name == "%packages":
        check_section(section, plan.packages)
        return
    if section.name == "%post":
        if section.script.inChroot:
            data = section.script
            script = Script(
                section.location.line, data.interp, data.script, data.logfile or "", bool(data.errorOnFail)
            )
            plan.scripts.append(script)
            return
        raise UnsupportedCommand(
            section.location,
            "%post --nochroot: there is no installer environment to run it in; remove --nochroot",
        )
    if name not in IGNORED_COMMANDS or (section.name == "%addon" and "--enable" in section.arguments):
        raise UnsupportedCommand(
            section.location, f"{name}: `rap image build` does not support this section; leave it out"
        )
    plan.ignored[name] = IGNORED_COMMANDS[name]


def _check_required(ks: KickstartDocument, plan: BuildPlan) -> None:
    mounts = [partition.mount for partition in plan.partitions]
    for mount, why in (
        ("/", "the system"),
        ("/boot", "the kernels, whose path is written into the boot loader"),
    ):
        if mount not in mounts:
            raise UnsupportedCommand(ks.top, f"part {mount} is missing; it is needed for {why}")
    if plan.packages is None:
        raise UnsupportedCommand(ks.top, "%packages is missing; an image is made of packages")


# ---- the disk ----


@handles("clearpart", "--all", "--initlabel", "--disklabel", "--drives")
def _clearpart(command: KickstartCommand, _plan: BuildPlan) -> None:
    if command.data.disklabel != "gpt":
        raise UnsupportedCommand(
            command.location, "clearpart: only --disklabel=gpt is supported, which starts with BIOS and UEFI"
        )


@handles("part", "--fstype", "--ondisk", "--size", "--grow", "--label", "--fsoptions")
def _part(command: KickstartCommand, plan: BuildPlan) -> None:
    data = command.data
    if data.fstype not in ("ext4", "efi", "biosboot"):
        raise UnsupportedCommand(command.location, f"part --fstype={data.fstype}: use ext4, efi or biosboot")
    if not data.size:
        raise UnsupportedCommand(
            command.location,
            f"part {data.mountpoint}: give its --size in MiB; an image has no disk whose size is known",
        )
    plan.disks |= {data.disk.removeprefix("/dev/")} - {""}
    if len(plan.disks) > 1:
        raise UnsupportedCommand(
            command.location, f"part --ondisk={data.disk}: an image is a single disk; name the same disk"
        )
    plan.partitions.append(
        ImagePartition(
            data.mountpoint, data.fstype, data.size, bool(data.grow), data.label, data.fsopts or "defaults"
        )
    )


_handlers["partition"] = _handlers["part"]


@handles("bootloader", "--location", "--boot-drive", "--timeout", "--iscrypted", "--password", "--append")
def _bootloader(command: KickstartCommand, plan: BuildPlan) -> None:
    data = command.data
    if data.location != "mbr" or (data.password and not data.isCrypted):
        raise UnsupportedCommand(
            command.location, "bootloader: write --location=mbr, and a password --iscrypted"
        )
    plan.implied += ["grub2-pc", "grub2-pc-modules", "grub2-efi-x64", "shim-x64"]
    plan.kernel_arguments = data.appendLine
    plan.boot_timeout_s = 5 if data.timeout is None else data.timeout
    plan.boot_password_hash = data.password
    # programs that rewrite the menu on the box read this file, which Anaconda also writes
    defaults = f'GRUB_CMDLINE_LINUX="{data.appendLine}"\nGRUB_DISABLE_RECOVERY="true"\n'
    plan.actions.append(Write("/etc/default/grub", defaults))


# ---- the sources ----


@handles("repo", "--name", "--baseurl", "--mirrorlist", "--metalink", "--install", "--proxy", "--noverifyssl")
def _repo(command: KickstartCommand, plan: BuildPlan) -> None:
    """Add a repository to the installed system if --install is given; the builder installs from its own --repo."""
    data = command.data
    if not data.install:
        plan.ignored["repo"] = _SOURCE
        return
    settings = {
        "name": data.name,
        "enabled": "1",
        "baseurl": data.baseurl,
        "mirrorlist": data.mirrorlist,
        "metalink": data.metalink,
        "proxy": data.proxy,
        "sslverify": "0" if data.noverifyssl else "",
    }
    lines = [f"[{data.name}]", *(f"{key}={value}" for key, value in settings.items() if value)]
    plan.actions.append(Write(f"/etc/yum.repos.d/{data.name}.repo", "\n".join(lines) + "\n"))


# ---- the system ----


@handles("lang")
def _lang(command: KickstartCommand, plan: BuildPlan) -> None:
    plan.actions.append(Write("/etc/locale.conf", f"LANG={command.data.lang}\n"))


@handles("keyboard", "--xlayouts", "--vckeymap")
def _keyboard(command: KickstartCommand, plan: BuildPlan) -> None:
    data = command.data
    if len(data.x_layouts) > 1:
        raise UnsupportedCommand(
            command.location, "keyboard --xlayouts: the console has one layout; name one"
        )
    keymap = data.vc_keymap or _console_keymap((data.x_layouts or [data.keyboard or "us"])[0])
    plan.actions.append(Write("/etc/vconsole.conf", f"KEYMAP={keymap}\n"))


def _console_keymap(layout: str) -> str:
    """Return the console's name of an X layout, as kbd names its keymaps: "cz-qwerty" for "cz (qwerty)"."""
    return "-".join(re.findall(r"[\w.-]+", layout))


@handles("timezone", "--utc", "--isUtc")
def _timezone(command: KickstartCommand, plan: BuildPlan) -> None:
    plan.actions.append(SymbolicLink("/etc/localtime", f"../usr/share/zoneinfo/{command.data.timezone}"))
    clock = "UTC" if command.data.isUtc else "LOCAL"
    plan.actions.append(Write("/etc/adjtime", f"0.0 0 0.0\n0\n{clock}\n"))


@handles("timesource", "--ntp-server")
def _timesource(command: KickstartCommand, plan: BuildPlan) -> None:
    server = command.data.ntp_server
    plan.implied.append("chrony")
    text = f"server {server} iburst\n"
    earlier = next((a for a in plan.actions if isinstance(a, Write) and a.path == _NTP_SERVERS), None)
    if earlier:
        plan.actions.remove(earlier)
        text = earlier.text + text
    else:
        plan.actions.append(SystemCommand(("sed", "-i", "-E", r"s/^(pool|server) /#&/", "/etc/chrony.conf")))
        plan.actions.append(
            SystemCommand(
                ("sh", "-c", f"echo 'confdir {_NTP_SERVERS.rpartition('/')[0]}' >> /etc/chrony.conf")
            )
        )
    plan.actions.append(Write(_NTP_SERVERS, text))


_NTP_SERVERS: Final = "/etc/chrony.d/kickstart.conf"


@handles(
    *("network", "--device", "--bootproto", "--ip", "--netmask", "--gateway", "--nameserver", "--noipv6"),
    *("--nodefroute", "--onboot", "--activate", "--hostname"),
)
def _network(command: KickstartCommand, plan: BuildPlan) -> None:
    data = command.data
    _refuse_network(command)
    if data.hostname:
        plan.actions.append(Write("/etc/hostname", data.hostname + "\n"))
    if data.device:
        path = f"/etc/NetworkManager/system-connections/{data.device}.nmconnection"
        plan.actions.append(Write(path, _keyfile(data), 0o600))


def _refuse_network(command: KickstartCommand) -> None:
    """Raise UnsupportedCommand for a port that only the installer can choose, and for addresses without an effect."""
    data = command.data
    if data.bootProto in ("ibft", "query"):
        raise UnsupportedCommand(
            command.location, f"network --bootproto={data.bootProto}: write dhcp or static"
        )
    if data.device in ("link", "bootif", "ibft") or ":" in (data.device or ""):
        raise UnsupportedCommand(
            command.location, f"network --device={data.device}: write the port's name, such as enp1s0"
        )
    options = [
        argument
        for argument in command.arguments
        if argument.startswith("--") and not argument.startswith("--hostname")
    ]
    if options and not data.device:
        raise UnsupportedCommand(
            command.location, f"network {options[0]}: needs --device with the port's name"
        )
    unused = [
        name for name in ("ip", "netmask", "gateway") if getattr(data, name) and data.bootProto != "static"
    ]
    if unused:
        raise UnsupportedCommand(command.location, f"network --{unused[0]}: needs --bootproto=static")


def _keyfile(data: Any) -> str:
    """Return a connection profile of NetworkManager (nm-settings-keyfile(5))."""
    static = data.bootProto == "static"
    ipv4 = {"method": "manual" if static else "auto"}
    if static:
        ipv4["address1"] = f"{data.ip}/{IPv4Network(f'0.0.0.0/{data.netmask}').prefixlen}" + (
            f",{data.gateway}" if data.gateway else ""
        )
    if data.nameserver:
        ipv4["dns"] = data.nameserver.replace(",", ";") + ";"
    if data.nodefroute:
        ipv4["never-default"] = "true"
    file = configparser.ConfigParser(interpolation=None)
    file["connection"] = {
        "id": data.device,
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{data.device}.rap.invalid")),
        "type": "ethernet",
        "interface-name": data.device,
        "autoconnect": "true" if data.onboot else "false",
    }
    file["ipv4"] = ipv4
    file["ipv6"] = {"method": "disabled" if data.noipv6 else "auto"}
    if data.nodefroute and not data.noipv6:
        file["ipv6"]["never-default"] = "true"
    text = io.StringIO()
    file.write(text, space_around_delimiters=False)
    return text.getvalue()


@handles(
    "firewall",
    "--enabled",
    "--enable",
    "--disabled",
    "--disable",
    "--ssh",
    "--service",
    "--port",
    "--remove-service",
)
def _firewall(command: KickstartCommand, plan: BuildPlan) -> None:
    data = command.data
    plan.implied.append("firewalld")
    if not data.enabled:
        plan.actions.append(SystemCommand(("firewall-offline-cmd", "--disabled")))
        return
    services = sorted({*data.services, *(["ssh"] if "ssh" not in data.remove_services else [])})
    plan.actions.append(
        SystemCommand(
            (
                *("firewall-offline-cmd", "--enabled", *(f"--service={name}" for name in services)),
                *(f"--remove-service={name}" for name in data.remove_services),
                *(f"--port={port}" for port in data.ports),
            )
        )
    )


@handles("selinux", "--enforcing", "--permissive", "--disabled")
def _selinux(command: KickstartCommand, plan: BuildPlan) -> None:
    mode = {0: "disabled", 1: "enforcing", 2: "permissive"}[command.data.selinux]
    plan.actions.append(Write("/etc/selinux/config", f"SELINUX={mode}\nSELINUXTYPE=targeted\n"))


@handles("rootpw", "--lock", "--iscrypted", "--allow-ssh")
def _rootpw(command: KickstartCommand, plan: BuildPlan) -> None:
    data = command.data
    if data.password and not data.isCrypted:
        raise UnsupportedCommand(
            command.location, "rootpw: a plaintext password would be the same on every box; write --lock"
        )
    if data.password:
        plan.actions.append(SystemCommand(("chpasswd", "--encrypted"), f"root:{data.password}\n"))
    if data.lock:
        plan.actions.append(SystemCommand(("usermod", "--lock", "root")))
    if data.allow_ssh:
        plan.actions.append(
            Write("/etc/ssh/sshd_config.d/01-permitrootlogin.conf", "PermitRootLogin yes\n", 0o600)
        )


@handles("authselect", "--force")
def _authselect(command: KickstartCommand, plan: BuildPlan) -> None:
    plan.implied.append("authselect")
    plan.actions.append(SystemCommand(("authselect", *command.arguments)))


_handlers["authselect"] = (_authselect, frozenset({"--force", "--nobackup"}))


@handles(
    "user",
    "--name",
    "--groups",
    "--iscrypted",
    "--password",
    "--lock",
    "--uid",
    "--gid",
    "--homedir",
    "--shell",
    "--gecos",
)
def _user(command: KickstartCommand, plan: BuildPlan) -> None:
    data = command.data
    if data.password and not data.isCrypted:
        raise UnsupportedCommand(
            command.location,
            f"user {data.name}: a plaintext password would be in every image; write --iscrypted",
        )
    if data.gid is not None:  # Anaconda creates the user's own group with this number
        plan.actions.append(SystemCommand(("groupadd", "--gid", str(data.gid), data.name)))
    for group in data.groups:
        if "(" in group:
            raise UnsupportedCommand(
                command.location, f"user --groups={group}: write the name without a number"
            )
        plan.actions.append(SystemCommand(("groupadd", "--force", "--system", group)))
    settings = {
        "--uid": data.uid,
        "--gid": data.gid,
        "--home-dir": data.homedir,
        "--shell": data.shell,
        "--comment": data.gecos,
    }
    options = [
        argument
        for option, value in settings.items()
        if value not in (None, "")
        for argument in (option, str(value))
    ]
    groups = ("--groups", ",".join(data.groups)) if data.groups else ()
    plan.actions.append(SystemCommand(("useradd", "--create-home", *groups, *options, data.name)))
    if data.password:
        plan.actions.append(SystemCommand(("chpasswd", "--encrypted"), f"{data.name}:{data.password}\n"))
    if data.lock:
        plan.actions.append(SystemCommand(("usermod", "--lock", data.name)))


_ADD_KEY: Final = """\
set -e
home=$(getent passwd "$1" | cut -d: -f6)
install -d -m 0700 -o "$1" -g "$(id -g "$1")" "$home/.ssh"
cat >> "$home/.ssh/authorized_keys"
chown "$1:" "$home/.ssh/authorized_keys"
chmod 0600 "$home/.ssh/authorized_keys"
"""


@handles("sshkey", "--username")
def _sshkey(command: KickstartCommand, plan: BuildPlan) -> None:
    data = command.data
    plan.actions.append(SystemCommand(("sh", "-c", _ADD_KEY, "sshkey", data.username), data.key + "\n"))


@handles("services", "--enabled", "--disabled")
def _services(command: KickstartCommand, plan: BuildPlan) -> None:
    if command.data.disabled:
        plan.actions.append(
            SystemCommand(
                (
                    "sh",
                    "-c",
                    'for s; do systemctl disable "$s" 2>/dev/null || :; done',
                    "services",
                    *command.data.disabled,
                )
            )
        )
    if command.data.enabled:
        plan.actions.append(SystemCommand(("systemctl", "enable", *command.data.enabled)))
