"""What each kickstart command does to an image: one function a command, found by its name.

    @follows("timezone", "--utc")
    def _timezone(command: Command, plan: Plan) -> None: ...

The decorator names every option that the function honours; a command with another one is not followed, and nothing
is built. Commands that steer the installation and leave nothing behind are in `MEANS_NOTHING`, each with its
reason. Functions do nothing to any disk: they add to the plan. What Anaconda does for a command is in its
`pyanaconda/modules`.
"""

from __future__ import annotations

import configparser
import io
import uuid
from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any, Final, TypeAlias

from imaging.build.types import BuildPlan, NotFollowed, Partition, Script, SymbolicLink, SystemCommand, Write
from imaging.kickstart.document import Document, KickstartCommand, Section

Follower: TypeAlias = Callable[[KickstartCommand, BuildPlan], None]

MEANS_NOTHING: Final = {
    "text": "an image is built without the installer's screens",
    "graphical": "an image is built without the installer's screens",
    "cmdline": "an image is built without the installer's screens",
    "eula": "it answers a question that only the installer asks",
    "firstboot": "only graphical systems have the agent",
    "reboot": "nothing was started that could be",
    "poweroff": "nothing was started that could be",
    "shutdown": "nothing was started that could be",
    "halt": "nothing was started that could be",
    "cdrom": "packages come from the repositories given to the builder",
    "url": "packages come from the repositories given to the builder",
    "repo": "packages come from the repositories given to the builder",
    "zerombr": "an image begins empty",
    "ignoredisk": "an image is one disk, whatever its name will be",
    "%pre": "it looks at the machine that is installed, and there is none yet",
    "%pre-install": "it looks at the machine that is installed, and there is none yet",
    "%onerror": "it is for errors of the installer",
    "%traceback": "it is for errors of the installer",
    "%addon com_redhat_kdump": "no package for kernel dumps is installed unless %packages says so",
}
"""Commands and sections that leave nothing behind on an installed system either, and why."""

_followers: dict[str, tuple[Follower, frozenset[str]]] = {}


def follows(name: str, *options: str) -> Callable[[Follower], Follower]:
    """Make a function the one that follows command `name`, of which it honours these options."""

    def register(function: Follower) -> Follower:
        assert name not in _followers and name not in MEANS_NOTHING, f"two answers to {name}"
        _followers[name] = (function, frozenset(options))
        return function

    return register


def followed() -> list[str]:
    """The names of all commands that are followed."""
    return sorted(_followers)


def plan_of(ks: Document) -> BuildPlan:
    """What a kickstart comes to. Errors: NotFollowed, for the first thing that is not."""
    if ks.refusals:
        refusal = next((r for r in ks.refusals if not r.deprecated), ks.refusals[0])
        if not refusal.deprecated:
            raise NotFollowed(
                refusal.spot, f"{refusal.word}: {refusal.message}; `rap image ks --check` says more"
            )
    if ks.missing_includes or ks.open_ended:
        spot = ks.missing_includes[0][0] if ks.missing_includes else ks.top
        raise NotFollowed(
            spot, "%include: the file is made by a script on the machine that is installed; write it out"
        )
    plan = BuildPlan(packages=ks.packages)
    for command in ks.commands:
        _follow(command, plan)
    for section in ks.sections:
        _take(section, plan)
    _complete(ks, plan)
    return plan


def _follow(command: KickstartCommand, plan: BuildPlan) -> None:
    if command.name in MEANS_NOTHING:
        plan.ignored[command.name] = MEANS_NOTHING[command.name]
        return
    if command.name not in _followers:
        raise NotFollowed(
            command.spot, f"{command.name}: `rap image build` does not follow this command; leave it out"
        )
    function, options = _followers[command.name]
    for word in command.words:
        option = word.partition("=")[0]
        if option.startswith("--") and option not in options:
            honoured = ", ".join(sorted(options)) or "none"
            raise NotFollowed(
                command.spot,
                f"{command.name} {option}: is not followed in an image; of its options are: {honoured}",
            )
    function(command, plan)


def _take(section: Section, plan: BuildPlan) -> None:
    name = (
        f"{section.name} {section.words[0]}" if section.name == "%addon" and section.words else section.name
    )
    if section.name == "%packages":
        return
    if section.name == "%post":
        if section.script.inChroot:
            data = section.script
            script = Script(
                section.spot.line, data.interp, data.script, data.logfile or "", bool(data.errorOnFail)
            )
            plan.scripts.append(script)
            return
        raise NotFollowed(
            section.spot, "%post --nochroot: there is no installer for it to run in; write it without"
        )
    if name not in MEANS_NOTHING or (section.name == "%addon" and "--enable" in section.words):
        raise NotFollowed(
            section.spot, f"{name}: `rap image build` does not follow this section; leave it out"
        )
    plan.ignored[name] = MEANS_NOTHING[name]


def _complete(ks: Document, plan: BuildPlan) -> None:
    mounts = [partition.mount for partition in plan.partitions]
    for mount, why in (("/", "the system"), ("/boot", "kernels: the boot loader is told where it is")):
        if mount not in mounts:
            raise NotFollowed(ks.top, f"part {mount}: is not there, for {why}")
    if plan.packages is None:
        raise NotFollowed(ks.top, "%packages: is not there; an image is made of packages")


# ---- the disk ----


@follows("clearpart", "--all", "--initlabel", "--disklabel", "--drives")
def _clearpart(command: KickstartCommand, _plan: BuildPlan) -> None:
    if command.data.disklabel != "gpt":
        raise NotFollowed(
            command.spot, "clearpart: only --disklabel=gpt is followed; it starts under BIOS and UEFI"
        )


@follows("part", "--fstype", "--ondisk", "--size", "--grow", "--label", "--fsoptions")
def _part(command: KickstartCommand, plan: BuildPlan) -> None:
    data = command.data
    if data.fstype not in ("ext4", "efi", "biosboot"):
        raise NotFollowed(command.spot, f"part --fstype={data.fstype}: an image has ext4, efi and biosboot")
    if not data.size:
        raise NotFollowed(
            command.spot, f"part {data.mountpoint}: give its --size in MiB; there is no disk to measure"
        )
    plan.partitions.append(
        Partition(
            data.mountpoint, data.fstype, data.size, bool(data.grow), data.label, data.fsopts or "defaults"
        )
    )


_followers["partition"] = _followers["part"]


@follows("bootloader", "--location", "--boot-drive", "--timeout", "--iscrypted", "--password", "--append")
def _bootloader(command: KickstartCommand, plan: BuildPlan) -> None:
    data = command.data
    if data.location != "mbr" or (data.password and not data.isCrypted):
        raise NotFollowed(command.spot, "bootloader: write --location=mbr, and a password --iscrypted")
    plan.implied += ["grub2-pc", "grub2-pc-modules", "grub2-efi-x64", "shim-x64"]
    plan.kernel_arguments = data.appendLine
    plan.boot_timeout_s = 5 if data.timeout is None else data.timeout
    plan.boot_password_hash = data.password
    # for whoever makes the menu anew on the box; Anaconda leaves it, too
    defaults = f'GRUB_CMDLINE_LINUX="{data.appendLine}"\nGRUB_DISABLE_RECOVERY="true"\n'
    plan.acts.append(Write("/etc/default/grub", defaults))


# ---- the system ----


@follows("lang")
def _lang(command: KickstartCommand, plan: BuildPlan) -> None:
    plan.acts.append(Write("/etc/locale.conf", f"LANG={command.data.lang}\n"))


@follows("keyboard", "--xlayouts", "--vckeymap")
def _keyboard(command: KickstartCommand, plan: BuildPlan) -> None:
    keymap = command.data.vc_keymap or (command.data.x_layouts or ["us"])[0].split()[0]
    plan.acts.append(Write("/etc/vconsole.conf", f"KEYMAP={keymap}\n"))


@follows("timezone", "--utc", "--isUtc")
def _timezone(command: KickstartCommand, plan: BuildPlan) -> None:
    plan.acts.append(SymbolicLink("/etc/localtime", f"../usr/share/zoneinfo/{command.data.timezone}"))
    clock = "UTC" if command.data.isUtc else "LOCAL"
    plan.acts.append(Write("/etc/adjtime", f"0.0 0 0.0\n0\n{clock}\n"))


@follows("timesource", "--ntp-server")
def _timesource(command: KickstartCommand, plan: BuildPlan) -> None:
    server = command.data.ntp_server
    plan.implied.append("chrony")
    text = f"server {server} iburst\n"
    earlier = next((a for a in plan.acts if isinstance(a, Write) and a.path == _NTP_SERVERS), None)
    if earlier:
        plan.acts.remove(earlier)
        text = earlier.text + text
    else:
        plan.acts.append(SystemCommand(("sed", "-i", "-E", r"s/^(pool|server) /#&/", "/etc/chrony.conf")))
        plan.acts.append(
            SystemCommand(
                ("sh", "-c", f"echo 'confdir {_NTP_SERVERS.rpartition('/')[0]}' >> /etc/chrony.conf")
            )
        )
    plan.acts.append(Write(_NTP_SERVERS, text))


_NTP_SERVERS: Final = "/etc/chrony.d/kickstart.conf"


@follows(
    *("network", "--device", "--bootproto", "--ip", "--netmask", "--gateway", "--nameserver", "--noipv6"),
    *("--nodefroute", "--onboot", "--activate", "--hostname"),
)
def _network(command: KickstartCommand, plan: BuildPlan) -> None:
    data = command.data
    if data.hostname:
        plan.acts.append(Write("/etc/hostname", data.hostname + "\n"))
    if data.device:
        path = f"/etc/NetworkManager/system-connections/{data.device}.nmconnection"
        plan.acts.append(Write(path, _keyfile(data), 0o600))


def _keyfile(data: Any) -> str:
    """A connection as NetworkManager keeps it (nm-settings-keyfile(5))."""
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
    text = io.StringIO()
    file.write(text, space_around_delimiters=False)
    return text.getvalue()


@follows(
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
        plan.acts.append(SystemCommand(("firewall-offline-cmd", "--disabled")))
        return
    services = sorted({*data.services, *(["ssh"] if "ssh" not in data.remove_services else [])})
    plan.acts.append(
        SystemCommand(
            (
                *("firewall-offline-cmd", "--enabled", *(f"--service={name}" for name in services)),
                *(f"--remove-service={name}" for name in data.remove_services),
                *(f"--port={port}" for port in data.ports),
            )
        )
    )


@follows("selinux", "--enforcing", "--permissive", "--disabled")
def _selinux(command: KickstartCommand, plan: BuildPlan) -> None:
    mode = {0: "disabled", 1: "enforcing", 2: "permissive"}[command.data.selinux]
    plan.acts.append(Write("/etc/selinux/config", f"SELINUX={mode}\nSELINUXTYPE=targeted\n"))


@follows("rootpw", "--lock", "--iscrypted", "--allow-ssh")
def _rootpw(command: KickstartCommand, plan: BuildPlan) -> None:
    data = command.data
    if data.password and not data.isCrypted:
        raise NotFollowed(
            command.spot, "rootpw: a password in plain text would be the same on every box; --lock"
        )
    if data.password:
        plan.acts.append(SystemCommand(("chpasswd", "--encrypted"), f"root:{data.password}\n"))
    if data.lock:
        plan.acts.append(SystemCommand(("usermod", "--lock", "root")))


@follows("authselect", "--force")
def _authselect(command: KickstartCommand, plan: BuildPlan) -> None:
    plan.implied.append("authselect")
    plan.acts.append(SystemCommand(("authselect", *command.words)))


_followers["authselect"] = (_authselect, frozenset({"--force", "--nobackup"}))


@follows(
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
        raise NotFollowed(
            command.spot, f"user {data.name}: a password in plain text would be in every image; --iscrypted"
        )
    for group in data.groups:
        plan.acts.append(SystemCommand(("groupadd", "--force", "--system", group)))
    given = {
        "--uid": data.uid,
        "--gid": data.gid,
        "--home-dir": data.homedir,
        "--shell": data.shell,
        "--comment": data.gecos,
    }
    options = [
        word for option, value in given.items() if value not in (None, "") for word in (option, str(value))
    ]
    groups = ("--groups", ",".join(data.groups)) if data.groups else ()
    plan.acts.append(SystemCommand(("useradd", "--create-home", *groups, *options, data.name)))
    if data.password:
        plan.acts.append(SystemCommand(("chpasswd", "--encrypted"), f"{data.name}:{data.password}\n"))
    if data.lock:
        plan.acts.append(SystemCommand(("usermod", "--lock", data.name)))


_TAKE_KEY: Final = """\
set -e
home=$(getent passwd "$1" | cut -d: -f6)
install -d -m 0700 -o "$1" "$home/.ssh"
cat >> "$home/.ssh/authorized_keys"
chown "$1" "$home/.ssh/authorized_keys"
chmod 0600 "$home/.ssh/authorized_keys"
"""


@follows("sshkey", "--username")
def _sshkey(command: KickstartCommand, plan: BuildPlan) -> None:
    data = command.data
    plan.acts.append(SystemCommand(("sh", "-c", _TAKE_KEY, "sshkey", data.username), data.key + "\n"))


@follows("services", "--enabled", "--disabled")
def _services(command: KickstartCommand, plan: BuildPlan) -> None:
    if command.data.disabled:
        plan.acts.append(
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
        plan.acts.append(SystemCommand(("systemctl", "enable", *command.data.enabled)))
