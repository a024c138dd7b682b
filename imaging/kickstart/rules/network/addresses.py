"""Addresses, networks and gateways."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, ip_address, ip_interface
from typing import Any

from imaging.kickstart.document import KickstartCommand, Spot
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule


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


@risk
def address_twice(case: Case) -> Faults:
    """Each port needs a different address.

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
def netmask_form(case: Case) -> Faults:
    """A netmask is ones followed by zeros.

    Source: RFC 1519, 2.1; NetworkManager stores a prefix length.
    """
    for command in case.ks.named("network"):
        mask = _address(command.data.netmask)
        if isinstance(mask, IPv4Address) and _prefix(mask) is None:
            yield LintFault(
                command.spot, f"--netmask={mask} has ones after a zero", "write it like 255.255.255.0"
            )


@rule
def address_unusable(case: Case) -> Faults:
    """A host's address is neither its network, nor its broadcast address, nor loopback or multicast.

    Source: RFC 1122, 3.2.1.3.
    """
    for command in case.ks.named("network"):
        interface = interface_of(command)
        if interface is None:
            continue
        network, address = interface.network, interface.ip
        ends = (network.network_address, network.broadcast_address) if network.prefixlen < 31 else ()
        if address in ends or address.is_multicast or address.is_loopback or address.is_unspecified:
            yield LintFault(
                command.spot,
                f"--ip={address} is not a host address in {network}",
                f"use an address from {network[1]} to {network[-2]}"
                if network.num_addresses > 2
                else "use another",
            )


@rule
def gateway_elsewhere(case: Case) -> Faults:
    """A gateway is on the network of the port, and is another host.

    Source: RFC 1122, 3.3.1; NetworkManager rejects a gateway without an address.
    """
    for command in case.ks.named("network"):
        gateway, interface = _address(command.data.gateway), interface_of(command)
        if not isinstance(gateway, IPv4Address):
            continue
        if interface is not None and gateway not in interface.network:
            yield LintFault(
                command.spot,
                f"--gateway={gateway} is not on the network of {interface}",
                f"use an address of {interface.network}",
            )
        elif interface is not None and (
            gateway == interface.ip or gateway == interface.network.broadcast_address
        ):
            yield LintFault(
                command.spot,
                f"--gateway={gateway} is the port's own or the broadcast address",
                "name the router",
            )


@rule
def ipv6_form(case: Case) -> Faults:
    """--ipv6 is auto, dhcp, or an address with a prefix length, and --noipv6 excludes it.

    Source: RHEL's kickstart reference, `network --ipv6`.
    """
    for command in case.ks.named("network"):
        given = str(command.data.ipv6 or "")
        if given and given not in ("auto", "dhcp", "ignore"):
            try:
                right = ip_interface(given).version == 6
            except ValueError:
                right = False
            if not right:
                yield LintFault(
                    command.spot, f"--ipv6={given} is not an address", "write it like 2001:db8::1/64"
                )
        if given and command.data.noipv6:
            yield LintFault(command.spot, f"both --ipv6={given} and --noipv6", "leave one of them out")


@risk
def networks_overlap(case: Case) -> Faults:
    """Two ports on one network, or two default routes: which port a packet leaves from is not defined.

    Source: RFC 1122, 3.3.4.
    """
    seen: list[tuple[IPv4Interface, KickstartCommand]] = []
    for command in case.ks.named("network"):
        interface = interface_of(command)
        if interface is None:
            continue
        for other, before in seen:
            if interface.network.overlaps(other.network) and command.data.device != before.data.device:
                yield LintFault(
                    command.spot,
                    f"{interface.network} overlaps {other.network} of line {before.spot.line}",
                    "give each port a different network",
                )
        seen.append((interface, command))
    routes = [c for c in case.ks.named("network") if c.data.gateway and not c.data.nodefroute]
    for command in routes[1:]:
        yield LintFault(
            command.spot,
            f"a second default route, after line {routes[0].spot.line}",
            "add --nodefroute to one of them",
        )


@risk
def address_without_use(case: Case) -> Faults:
    """With DHCP, the addresses of the line are not used.

    Source: RHEL's kickstart reference, `network --bootproto`.
    """
    for command in case.ks.named("network"):
        data = command.data
        unused = [option for option in ("ip", "netmask", "gateway") if getattr(data, option)]
        if data.bootProto == "dhcp" and unused and "--bootproto=dhcp" in command.words:
            yield LintFault(
                command.spot,
                f"--bootproto=dhcp with --{unused[0]}",
                "write --bootproto=static, or leave it out",
            )


def interface_of(command: KickstartCommand) -> IPv4Interface | None:
    """The fixed IPv4 address of a command with its network, or None."""
    mask = _address(command.data.netmask)
    address = _address(command.data.ip)
    length = _prefix(mask) if isinstance(mask, IPv4Address) else None
    if length is None or not isinstance(address, IPv4Address):
        return None
    return IPv4Interface(f"{address}/{length}")


def _prefix(mask: IPv4Address) -> int | None:
    bits = f"{int(mask):032b}"
    return None if "01" in bits else bits.count("1")


def _address(value: Any) -> Any:
    try:
        return ip_address(str(value or ""))
    except ValueError:
        return None


def _not_addresses(spot: Spot, option: str, value: Any) -> Faults:
    for word in str(value or "").split(","):
        try:
            if word not in ("", "None"):
                ip_address(word)
        except ValueError:
            yield LintFault(spot, f"--{option}={word} is not an address", "write it like 192.0.2.1")
