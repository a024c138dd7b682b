"""Settings that are missing, stated twice or unknown."""

from __future__ import annotations

import re
from typing import Final

from imaging.kickstart.document import KickstartCommand
from imaging.kickstart.limits import HOST_NAME
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule

SINGLE: Final = (
    "lang",
    "keyboard",
    "timezone",
    "bootloader",
    "rootpw",
    "selinux",
    "firewall",
    "firstboot",
)
SOURCES: Final = ("cdrom", "url", "nfs", "harddrive", "liveimg", "ostreesetup", "ostreecontainer")


@rule
def unknown_profile(case: Case) -> Faults:
    """The profiles of authselect differ between releases; without a valid one no login is possible.

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
def time_server_form(case: Case) -> Faults:
    """A time server is one host name or address.

    Source: RHEL's kickstart reference, `timesource`; chrony.conf(5).
    """
    for command in case.ks.named("timesource"):
        for name in (command.data.ntp_server, command.data.ntp_pool):
            if name and not HOST_NAME.fullmatch(name) and not re.fullmatch(r"[0-9A-Fa-f:.]+", name):
                yield LintFault(
                    command.spot,
                    f"{name!r} is not one host",
                    "write one `timesource --ntp-server=HOST` for each",
                )


@risk
def stated_twice(case: Case) -> Faults:
    """Of several commands for a single setting, the last one applies; likewise for the source of packages.

    Source: pykickstart: a later command replaces the earlier one.
    """
    for names in (*((name,) for name in SINGLE), SOURCES, ("reboot", "poweroff", "halt", "shutdown")):
        seen: KickstartCommand | None = None
        for command in case.ks.named(*names):
            if seen is not None and (command.name, command.words) != (seen.name, seen.words):
                yield LintFault(
                    command.spot,
                    f"{command.name} replaces {seen.name} in line {seen.spot.line}",
                    "keep one of them",
                )
            seen = command


@risk
def setting_missing(case: Case) -> Faults:
    """An unattended installation in text mode stops and asks for a time zone; without lang it is in English.

    Source: RHEL's kickstart reference: `keyboard`, `lang` and `timezone` are required.
    """
    image = case.ks.has_command("liveimg", "ostreesetup", "ostreecontainer")
    if case.ks.open_ended or image or not case.ks.has_command("text", "cmdline"):
        return
    for name, right in (("lang", "en_US.UTF-8"), ("keyboard", "us"), ("timezone", "Etc/UTC --utc")):
        if not case.ks.has_command(name):
            yield LintFault(case.ks.top, f"there is no {name}", f"add `{name} {right}`")
