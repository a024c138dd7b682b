"""Services, firewall, time and language of the installed system."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Final

from imaging.kickstart.data import known_names, time_zones
from imaging.kickstart.document import KickstartCommand
from imaging.kickstart.limits import HOST_NAME
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule

LOCALE: Final = re.compile(r"(C|POSIX|[a-z]{2,3}(_[A-Z]{2})?)(\.([A-Za-z0-9-]+))?(@[a-z]+)?")
ENCODINGS: Final = ("utf8", "iso88591", "iso885915", "koi8r", "koi8u", "euckr", "eucjp", "gb18030", "big5")
KEYMAP: Final = re.compile(r"([A-Za-z]{2,}[A-Za-z0-9_.-]*)(\s?\([A-Za-z0-9_.-]+\))?")
PORT: Final = re.compile(r"(\d+)(-(\d+))?(:(tcp|udp|sctp|dccp))?")
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
UNWANTED: Final = {
    "telnet": "RHEL-09-215040",
    "tftp": "RHEL-09-215060",
    "vsftpd": "RHEL-09-215015",
    "debug-shell": "RHEL-09-211055",
    "kdump": "RHEL-09-213115",
    "autofs": "RHEL-09-231040",
}


@risk
def service_on_and_off(case: Case) -> Faults:
    """Services are disabled first, then enabled: one of the two entries is a mistake.

    Source: pykickstart, `services`.
    """
    for command in case.ks.named("services"):
        for name in sorted(set(command.data.enabled) & set(command.data.disabled)):
            yield LintFault(
                command.spot, f"service {name} is both enabled and disabled", "leave it in one list"
            )


@risk
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


@risk
def protection_disabled(case: Case) -> Faults:
    """Services that a STIG requires to be enabled.

    Source: RHEL-09-251015, 653015, 652010, 252015.
    """
    for command in case.ks.named("services"):
        for name in command.data.disabled:
            if name.partition(".")[0] in ("auditd", "chronyd", "firewalld", "rap-firewall", "rsyslog"):
                yield LintFault(command.spot, f"service {name} is disabled", "leave it out of --disabled")


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
def locale_unknown(case: Case) -> Faults:
    """A locale that glibc does not have leaves the system with the language of C.

    Source: glibc, `localedata/SUPPORTED`; locale(7).
    """
    known = known_names().locales
    for command in case.ks.named("lang"):
        for name in [command.data.lang, *command.data.addsupport]:
            match = LOCALE.fullmatch(name or "")
            base = match[1] if match else ""
            encoding = (match[4] or "").replace("-", "").lower() if match else ""
            languages = {each.partition("_")[0] for each in known}
            exists = base in known or ("_" not in base and base in languages)
            if name and not (exists and encoding in ("", *ENCODINGS)):
                close = get_close_matches(base or name, known, 1, 0.5)
                yield LintFault(
                    command.spot,
                    f"{name!r} is not a locale of glibc",
                    f"write it like {(close or ['en_US'])[0]}.UTF-8",
                )


@rule
def keyboard_unknown(case: Case) -> Faults:
    """A keyboard layout that neither X nor the console has.

    Source: xkeyboard-config, `rules/base.lst`; kbd's keymaps; localectl(1).
    """
    names = known_names()
    for command in case.ks.named("keyboard"):
        data = command.data
        for name in [each for each in (data.keyboard, data.vc_keymap, *data.x_layouts) if each]:
            match = KEYMAP.fullmatch(name)
            base = match[1] if match else ""
            console = base in names.keymaps or base.split("-")[0] in names.layouts
            if not (base in names.layouts or (console and name not in data.x_layouts)):
                yield LintFault(
                    command.spot,
                    f"{name!r} is not a keyboard layout",
                    "write it like us, de or 'cz (qwerty)'",
                )


@rule
def firewall_service_unknown(case: Case) -> Faults:
    """firewall-offline-cmd fails for a service that firewalld does not have.

    Source: firewalld, `config/services`; Anaconda, `network/firewall/installation.py`.
    """
    known = known_names().firewall_services
    for command in case.ks.named("firewall"):
        for name in (*command.data.services, *command.data.remove_services):
            file = f"/usr/lib/firewalld/services/{name}.xml"
            packaged = case.repository is not None and case.repository.files.get(file)
            if name not in known and not packaged:
                close = get_close_matches(name, known, 1)
                right = f"perhaps {close[0]}" if close else "write --port=NUMBER:tcp"
                yield LintFault(command.spot, f"firewalld has no service {name!r}", right)


@rule
def firewall_port_form(case: Case) -> Faults:
    """A port is a number or a range, with a protocol.

    Source: firewall-offline-cmd(1), --port; RHEL's kickstart reference, `firewall --port`.
    """
    for command in case.ks.named("firewall"):
        for port in command.data.ports:
            match = PORT.fullmatch(port)
            numbers = [int(number) for number in (match[1], match[3]) if number] if match else []
            if not match or not all(1 <= number <= 65535 for number in numbers) or numbers != sorted(numbers):
                yield LintFault(
                    command.spot, f"{port!r} is not a port", "write it like 8443:tcp or 5000-5010:udp"
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
    """A setting with one value takes the last of several commands, and one place is the source of packages.

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
