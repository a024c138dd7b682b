"""Network devices: their names, the board's ports, and one line for each."""

from __future__ import annotations

import re
from typing import Final

from imaging.kickstart.document import SourceLocation
from imaging.kickstart.limits import HOST_NAME, HOST_NAME_MAX
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.rules.network.links import device_names

MAC: Final = re.compile(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")
BY_KIND: Final = ("link", "bootif", "ibft")
DEVICE: Final = re.compile(r"[^/\s:]{1,15}")
"""The names that the kernel's dev_valid_name() accepts (net/core/dev.c); IFNAMSIZ is 16, including the final NUL."""
MTU: Final = range(68, 65536)
"""The sizes of a datagram in bytes. RFC 791: 68 must be forwarded without fragmentation; the maximum is 65,535."""
MTU_IPV6: Final = 1280
"""Minimum MTU of a link with IPv6, in bytes (RFC 8200, 5)."""


@rule
def port_not_on_board(case: Case) -> Faults:
    """Only ports of the board can be configured.

    Source: the board's file in settings/boards.
    """
    if case.board is None:
        return
    ports = [case.board.uplink, *case.board.instrument_ports.values()]
    made = {
        c.data.device
        for c in case.ks.named("network")
        if c.data.bondslaves or c.data.bridgeslaves or c.data.teamslaves
    }
    for command in case.ks.named("network"):
        data = command.data
        members = [
            *device_names(data.bondslaves),
            *device_names(data.bridgeslaves),
            *device_names(data.teamslaves),
        ]
        for device in members or [data.device or ""]:
            if device and device not in (*ports, *BY_KIND, *made) and not MAC.fullmatch(device):
                yield LintFault(
                    command.location, f"{case.board.name} has no port {device}", f"it has {', '.join(ports)}"
                )


@rule
def mtu_form(case: Case) -> Faults:
    """An MTU is a number of bytes.

    Source: RFC 791, 3.2 (68 to 65535); RFC 8200, 5 (IPv6 needs 1280).
    """
    for command in case.ks.named("network"):
        given = str(command.data.mtu or "")
        if given and not (given.isdecimal() and int(given) in MTU):
            yield LintFault(command.location, f"--mtu={given} is not an MTU", "write a number such as 1500")
        elif given and int(given) < MTU_IPV6 and command.data.ipv6 not in ("", "ignore", None):
            yield LintFault(
                command.location,
                f"--mtu={given} with --ipv6: the kernel turns IPv6 off",
                f"write --mtu={MTU_IPV6} or more",
            )


@rule
def host_name_form(case: Case) -> Faults:
    """A host name has letters, digits, hyphens and dots, and 64 characters at most.

    Source: RFC 1123, 2.1; Anaconda, `is_valid_hostname`.
    """
    for command in case.ks.named("network"):
        name = str(command.data.hostname or "")
        if name and (not HOST_NAME.fullmatch(name) or len(name) > HOST_NAME_MAX):
            yield LintFault(
                command.location,
                f"{name!r} is not a host name",
                "use letters, digits, hyphens and dots: 63 in each part, 64 in all",
            )
        elif name.rpartition(".")[2].isdecimal() or name.endswith("."):
            yield LintFault(
                command.location,
                f"{name!r} ends like an address, or with a dot",
                "write a letter in the last part, and no dot after it",
                risky=not name.endswith("."),
            )


@rule
def device_name_form(case: Case) -> Faults:
    """The kernel's names of network devices have at most 15 characters, none of them a slash, a colon or a space.

    Source: Linux, `dev_valid_name`.
    """
    for command in case.ks.named("network"):
        data = command.data
        members = [*device_names(data.bondslaves), *device_names(data.bridgeslaves)]
        for name in [data.device, command.option("interfacename"), *members]:
            if name and not MAC.fullmatch(name) and not DEVICE.fullmatch(name):
                yield LintFault(
                    command.location,
                    f"{name!r} is not a valid device name",
                    "use at most 15 characters without / : and spaces",
                )


@risk
def device_twice(case: Case) -> Faults:
    """If two lines configure one device, the later one applies; the same holds for two host names.

    Source: pykickstart, "has already been defined"; Anaconda, `network/kickstart.py`.
    """
    devices: dict[str, SourceLocation] = {}
    names: dict[str, SourceLocation] = {}
    for command in case.ks.named("network"):
        data = command.data
        key = f"{data.device} vlan {data.vlanid}" if data.vlanid else data.device
        if data.device and key in devices:
            yield LintFault(
                command.location, f"{key} is already configured on line {devices[key].line}", "write one line"
            )
        devices.setdefault(key, command.location)
        if data.hostname and names and data.hostname not in names:
            (first, location), *_ = names.items()
            yield LintFault(
                command.location, f"the host name is {first} on line {location.line}", "state one host name"
            )
        if data.hostname:
            names.setdefault(data.hostname, command.location)
