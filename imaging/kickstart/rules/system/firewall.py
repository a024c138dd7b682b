"""Rules about the firewall: it is enabled before the network, with services and ports that exist."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Final

from imaging.kickstart.data import known_names
from imaging.kickstart.document import Section, here_document
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule

_REDIRECT: Final = re.compile(r">\s*(\S+\.service(?:\.d/\S+\.conf)?)\s+<<")
PORT: Final = re.compile(r"(\d+)(-(\d+))?(:(tcp|udp|sctp|dccp))?")


@risk
def firewall_off(case: Case) -> Faults:
    """firewalld is installed and enabled.

    Source: RHEL-09-251010, 251015.
    """
    command = case.ks.last("firewall")
    network = next(case.ks.named("network"), None)
    if network is not None and not case.ks.has_command("firewall"):
        yield LintFault(
            network.location, "a network is configured without a firewall", "write `firewall --enabled`"
        )
    elif command is not None and not command.data.enabled:
        yield LintFault(command.location, "the firewall is off", "write `firewall --enabled`")


@risk
def network_before_firewall(case: Case) -> Faults:
    """The firewall must be loaded before the network starts.

    Source: systemd.special(7), network-pre.target.
    """
    for section in case.ks.sections_named("%post"):
        for location, text in section.lines():
            target = match[1] if (match := _REDIRECT.search(text)) else ""
            if "firewall" in target or "nftables" in target:
                yield from _started_after_network(section, target)
            if re.search(r"systemctl\s+(disable|mask)\b.*\b(firewalld|nftables|rap-firewall)\b", text):
                yield LintFault(
                    location, "the firewall is disabled after its installation", "remove the command"
                )


def _started_after_network(section: Section, target: str) -> Faults:
    """Report dependencies of a firewall unit on the network."""
    if "NetworkManager.service.d" in target:
        return
    for location, text in here_document(section, target):
        key, _, value = text.partition("=")
        if key.strip() in ("After", "Wants", "Requires") and re.search(r"\bnetwork(-online)?\.target", value):
            yield LintFault(
                location,
                f"{target} starts after the network: {text}",
                "write Before=network-pre.target and Wants=network-pre.target",
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
                yield LintFault(command.location, f"firewalld has no service {name!r}", right)


@risk
def firewall_contradicts(case: Case) -> Faults:
    """A service must not be both added and removed, and only ports of the board can be trusted.

    Source: RHEL's kickstart reference, `firewall`; the board's file in settings/boards.
    """
    for command in case.ks.named("firewall"):
        data = command.data
        for name in sorted(set(data.services) & set(data.remove_services)):
            yield LintFault(
                command.location, f"service {name} is both added and removed", "leave one of them out"
            )
        ports = [case.board.uplink, *case.board.instrument_ports.values()] if case.board else data.trusts
        for name in [name for name in data.trusts if name not in ports and name != "lo"]:
            yield LintFault(
                command.location, f"--trust={name}: the board has no such port", f"it has {', '.join(ports)}"
            )
        if data.enabled is False and (data.services or data.ports):
            yield LintFault(command.location, "--disabled with services or ports", "write --enabled")


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
                    command.location, f"{port!r} is not a port", "write it like 8443:tcp or 5000-5010:udp"
                )
