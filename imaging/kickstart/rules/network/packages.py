"""The network during the installation: the packages' server must be reachable."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from imaging.kickstart.document import KickstartCommand
from imaging.kickstart.rule import Case, Faults, LintFault, risk
from imaging.kickstart.rules.network.addresses import interface_of


@risk
def server_unreachable(case: Case) -> Faults:
    """If all addresses are fixed, host names need a name server, and other networks need a gateway.

    Source: RHEL's kickstart reference, `network`; Anaconda installs over these connections.
    """
    commands = [c for c in case.ks.named("network") if c.data.device or c.data.ip]
    fixed = commands and all(c.data.bootProto == "static" and c.data.ip for c in commands)
    if not fixed or case.ks.open_ended:
        return
    first = commands[0]
    for command, host in _servers(case):
        address = _address(host)
        if isinstance(address, IPv6Address):
            continue  # its gateway can be found by router advertisements
        near = address and any(i and address in i.network for i in map(interface_of, commands))
        if address is None and not any(c.data.nameserver for c in commands):
            yield LintFault(
                first.location,
                f"no name server, and line {command.location.line} installs from {host}",
                "add --nameserver=, or write an address there",
            )
            return
        if not near and not any(c.data.gateway for c in commands):
            yield LintFault(
                first.location,
                f"no gateway, and line {command.location.line} installs from {host}",
                "add --gateway= to the port through which it is reached",
            )
            return


def _servers(case: Case) -> Iterator[tuple[KickstartCommand, str]]:
    """Yield the host that Anaconda connects to for each source: its proxy, if there is one, or its server."""
    for command in case.ks.named("url", "repo", "nfs", "liveimg"):
        options = ("proxy", "url", "baseurl", "mirrorlist", "metalink")
        given = next((str(command.option(name)) for name in options if command.option(name)), "")
        host = str(command.option("server") or "") or _host(given)
        if host and "$" not in host:
            yield command, host


def _host(text: str) -> str:
    try:
        return urlsplit(text if ":/" in text else f"//{text}").hostname or ""
    except ValueError:
        return ""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
