"""Rules about settings that are missing, stated twice or unknown."""

from __future__ import annotations

import re
from difflib import get_close_matches
from ipaddress import ip_address
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
    "ignoredisk",
    "clearpart",
)
DISPLAYS: Final = ("text", "graphical", "cmdline")
FEATURES: Final = (
    *("with-altfiles", "with-ecryptfs", "with-faillock", "with-files-access-provider", "with-files-domain"),
    *("with-fingerprint", "with-group-merging", "with-gssapi", "with-krb5", "with-libvirt", "with-mdns4"),
    *("with-mdns6", "with-mkhomedir", "with-nispwquality", "with-pam-gnome-keyring", "with-pam-u2f"),
    *("with-pam-u2f-2fa", "with-pamaccess", "with-pwhistory", "with-silent-lastlog", "with-smartcard"),
    *("with-smartcard-lock-on-removal", "with-smartcard-required", "with-subid", "with-sudo", "with-tlog"),
    *("without-lastlog-showfailed", "without-nullok", "without-pam-u2f-nouserok", "with-time-access"),
    *("with-switchable-auth", "with-passkey"),
)
"""The features of all profiles of authselect."""
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
                command.location,
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
            if name and not _is_host(name):
                yield LintFault(
                    command.location,
                    f"{name!r} is not one host",
                    "write one `timesource --ntp-server=HOST` for each",
                )


@risk
def time_server_twice(case: Case) -> Faults:
    """A time server is named once, and not together with `--ntp-disable`.

    Source: RHEL's kickstart reference, `timesource`.
    """
    seen: dict[str, KickstartCommand] = {}
    off = next((c for c in case.ks.named("timesource") if c.data.ntp_disable), None)
    for command in case.ks.named("timesource"):
        name = command.data.ntp_server or command.data.ntp_pool or ""
        if name and name in seen:
            yield LintFault(
                command.location,
                f"{name} is already named on line {seen[name].location.line}",
                "name another one",
            )
        seen.setdefault(name, command)
    if off is not None and set(seen) - {""}:
        yield LintFault(off.location, "--ntp-disable together with time servers", "leave one of them out")


@rule
def unknown_feature(case: Case) -> Faults:
    """authselect stops at a feature that its profile does not have.

    Source: authselect-profiles(5), "Unknown profile feature"; the profiles' README.
    """
    for command in case.ks.named("authselect"):
        verb, profile, *features = [*command.data.authselect.split(), "", ""][:2] + [
            feature for feature in command.data.authselect.split()[2:] if not feature.startswith("-")
        ]
        for name in features if verb == "select" and profile in case.installer.authselect else ():
            known = name in FEATURES or name.startswith("with-custom-")
            if not known:
                close = get_close_matches(name, FEATURES, 1)
                yield LintFault(
                    command.location,
                    f"authselect has no feature {name!r}",
                    f"perhaps {close[0]}" if close else "leave it out",
                )


@risk
def stated_twice(case: Case) -> Faults:
    """If several commands state one setting or one source of packages, the last one applies.

    Source: pykickstart: a later command replaces the earlier one.
    """
    for names in (
        *((name,) for name in SINGLE),
        SOURCES,
        ("reboot", "poweroff", "halt", "shutdown"),
        DISPLAYS,
        ("skipx", "xconfig"),
    ):
        seen: KickstartCommand | None = None
        for command in case.ks.named(*names):
            if seen is not None and (command.name, command.arguments) != (seen.name, seen.arguments):
                yield LintFault(
                    command.location,
                    f"{command.name} replaces {seen.name} on line {seen.location.line}",
                    "keep one of them",
                )
            seen = command


@risk
def setting_missing(case: Case) -> Faults:
    """Without a time zone, an unattended installation in text mode stops and asks; without lang it is in English.

    Source: RHEL's kickstart reference: `keyboard`, `lang` and `timezone` are required.
    """
    image = case.ks.has_command("liveimg", "ostreesetup", "ostreecontainer")
    if case.ks.open_ended or image or not case.ks.has_command("text", "cmdline"):
        return
    for name, right in (("lang", "en_US.UTF-8"), ("keyboard", "us"), ("timezone", "Etc/UTC --utc")):
        if not case.ks.has_command(name):
            yield LintFault(case.ks.top, f"there is no {name}", f"add `{name} {right}`")
    zone = case.ks.last("timezone")
    if zone is not None and not zone.data.timezone:
        yield LintFault(zone.location, "timezone names no zone", "write it like `timezone Etc/UTC --utc`")


def _is_host(text: str) -> bool:
    if re.fullmatch(r"[0-9.]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", text):
        try:
            ip_address(text)
        except ValueError:
            return False
        return True
    return bool(HOST_NAME.fullmatch(text))
