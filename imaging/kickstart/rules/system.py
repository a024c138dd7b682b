"""Services, network ports, time zone and language of the installed system, and its package sources."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any, Final

from imaging.kickstart.data import time_zones
from imaging.kickstart.document import Spot
from imaging.kickstart.rule import Case, Faults, LintFault, rule

LOCALE: Final = re.compile(r"(C|POSIX|[a-z]{2,3}(_[A-Z]{2})?)(\.[A-Za-z0-9-]+)?(@[a-z]+)?")
KEYMAP: Final = re.compile(r"[a-z]{2,}[A-Za-z0-9_-]*(\s?\([A-Za-z0-9_-]+\))?")
MAC: Final = re.compile(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")
BY_KIND: Final = ("link", "bootif", "ibft")
UNWANTED: Final = {
    "telnet": "RHEL-09-215040",
    "tftp": "RHEL-09-215060",
    "vsftpd": "RHEL-09-215015",
    "debug-shell": "RHEL-09-211055",
    "kdump": "RHEL-09-213115",
    "autofs": "RHEL-09-231040",
}


@rule
def service_on_and_off(case: Case) -> Faults:
    """Services are disabled first, then enabled: one of the two entries is a mistake.

    Source: pykickstart, `services`.
    """
    for command in case.ks.named("services"):
        for name in sorted(set(command.data.enabled) & set(command.data.disabled)):
            yield LintFault(
                command.spot, f"service {name} is both enabled and disabled", "leave it in one list"
            )


@rule
def unwanted_service(case: Case) -> Faults:
    """Services that a STIG requires to be disabled.

    Source: the rules named.
    """
    for command in case.ks.named("services"):
        for name in command.data.enabled:
            source = UNWANTED.get(name.partition(".")[0])
            if source:
                yield LintFault(
                    command.spot, f"service {name} is enabled ({source})", "leave it out of --enabled"
                )


@rule
def protection_disabled(case: Case) -> Faults:
    """Services that a STIG requires to be enabled.

    Source: RHEL-09-251015, 653015, 652010, 252015.
    """
    for command in case.ks.named("services"):
        for name in command.data.disabled:
            if name.partition(".")[0] in ("auditd", "chronyd", "firewalld", "rap-firewall", "rsyslog"):
                yield LintFault(command.spot, f"service {name} is disabled", "leave it out of --disabled")


@rule
def port_not_on_board(case: Case) -> Faults:
    """A port that the board does not have gets no address.

    Source: the board's file in settings/boards.
    """
    if case.board is None:
        return
    ports = [case.board.uplink, *case.board.instrument_ports.values()]
    for command in case.ks.named("network"):
        device = command.data.device or ""
        made = (
            command.data.bondslaves
            or command.data.bridgeslaves
            or command.data.teamslaves
            or command.data.vlanid
        )
        if device and device not in (*ports, *BY_KIND) and not MAC.fullmatch(device) and not made:
            yield LintFault(
                command.spot, f"{case.board.name} has no port {device}", f"it has {', '.join(ports)}"
            )


@rule
def network_form(case: Case) -> Faults:
    """NetworkManager rejects profiles with a wrong or missing address.

    Source: RHEL's kickstart reference, `network`.
    """
    for command in case.ks.named("network"):
        data = command.data
        if data.bootProto == "static" and not (data.ip and data.netmask) and not data.ipv6:
            yield LintFault(
                command.spot,
                "--bootproto=static without --ip and --netmask",
                "add them, or write --bootproto=dhcp",
            )
        for option in ("ip", "netmask", "gateway", "ipv6gateway", *(["nameserver"] * bool(data.nameserver))):
            yield from _not_addresses(command.spot, option, getattr(data, option, ""))


@rule
def address_twice(case: Case) -> Faults:
    """Each port needs an address of its own.

    Source: RFC 5227.
    """
    seen: dict[str, Spot] = {}
    for command in case.ks.named("network"):
        address = command.data.ip if command.data.bootProto == "static" else ""
        if address and address in seen:
            yield LintFault(
                command.spot,
                f"{address} is already defined in line {seen[address].line}",
                "give each port its own",
            )
        seen.setdefault(address, command.spot)


@rule
def defined_twice(case: Case) -> Faults:
    """Of two users or repositories with the same name, the installer uses one.

    Source: pykickstart warns of it, and ksvalidator accepts it.
    """
    seen: dict[tuple[str, str], Spot] = {}
    for command in case.ks.named("user", "repo"):
        key = (command.name, command.data.name)
        if key in seen:
            yield LintFault(
                command.spot,
                f"{command.name} {key[1]} is already defined in line {seen[key].line}",
                "rename one",
            )
        seen.setdefault(key, command.spot)


@rule
def unknown_profile(case: Case) -> Faults:
    """The profiles of authselect differ between releases; without a valid one nobody can log in.

    Source: authselect-profiles(5).
    """
    for command in case.ks.named("authselect"):
        verb, _, options = command.data.authselect.partition(" ")
        profile = options.partition(" ")[0]
        if verb == "select" and profile.partition("/")[0] not in ("custom", *case.installer.authselect):
            yield LintFault(
                command.spot,
                f"{case.ks.version} has no authselect profile {profile!r}",
                f"it has {', '.join(case.installer.authselect)}",
            )


@rule
def unknown_time_zone(case: Case) -> Faults:
    """For an unknown time zone, Anaconda uses New York.

    Source: the IANA time zone database.
    """
    for command in case.ks.named("timezone"):
        name = command.data.timezone
        if name and name not in time_zones():
            yield LintFault(
                command.spot, f"there is no time zone {name!r}", "write it like Europe/Berlin or Etc/UTC"
            )


@rule
def locale_form(case: Case) -> Faults:
    """A locale that glibc cannot load, or an invalid key map.

    Source: locale(7); localectl(1).
    """
    for command in case.ks.named("lang"):
        for name in [command.data.lang, *command.data.addsupport]:
            if name and not LOCALE.fullmatch(name):
                yield LintFault(command.spot, f"{name!r} is not a locale", "write it like en_US.UTF-8")
    for command in case.ks.named("keyboard"):
        given = [command.data.keyboard, command.data.vc_keymap, *command.data.x_layouts]
        for name in [name for name in given if name and not KEYMAP.fullmatch(name)]:
            yield LintFault(
                command.spot, f"{name!r} is not a keyboard layout", "write it like us, de or 'cz (qwerty)'"
            )


@rule
def unprotected_source(case: Case) -> Faults:
    """Anaconda does not verify package signatures, so that TLS is the only protection.

    Source: RHEL-09-214015 holds only afterwards.
    """
    for command in case.ks.named("url", "repo", "liveimg"):
        for option in ("url", "baseurl", "mirrorlist", "metalink"):
            given = str(getattr(command.data, option, "") or "")
            if given.startswith(("http://", "ftp://")):
                yield LintFault(command.spot, f"{given} is neither encrypted nor verified", "write https://")
        if getattr(command.data, "noverifyssl", False):
            yield LintFault(
                command.spot,
                "--noverifyssl accepts packages from any server",
                "give --sslcacert=, and leave it out",
            )


def _not_addresses(spot: Spot, option: str, value: Any) -> Faults:
    for word in str(value or "").split(","):
        try:
            if word not in ("", "None"):
                ip_address(word)
        except ValueError:
            yield LintFault(spot, f"--{option}={word} is not an address", "write it like 192.0.2.1")
