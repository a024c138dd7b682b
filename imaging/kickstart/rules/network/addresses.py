"""Addresses, networks and gateways."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    ip_address,
    ip_interface,
)
from typing import Any, Final

from imaging.kickstart.document import KickstartCommand, SourceLocation
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule

RESERVED: Final = (IPv4Network("0.0.0.0/8"), IPv4Network("240.0.0.0/4"))
_ALL_HOSTS: Final = IPv4Address("255.255.255.255")


@rule
def network_form(case: Case) -> Faults:
    """NetworkManager rejects profiles with a wrong or missing address.

    Source: RHEL's kickstart reference, `network`.
    """
    for command in case.ks.named("network"):
        data = command.data
        if data.bootProto == "static" and not (data.ip and data.netmask) and not data.ipv6:
            yield LintFault(
                command.location,
                "--bootproto=static without --ip and --netmask",
                "add them, or write --bootproto=dhcp",
            )
        for option in ("ip", "netmask", "gateway", "ipv6gateway", *(["nameserver"] * bool(data.nameserver))):
            yield from _not_addresses(command.location, option, command.option(option))


@risk
def address_twice(case: Case) -> Faults:
    """Each port needs a different address.

    Source: RFC 5227.
    """
    seen: dict[str, SourceLocation] = {}
    for command in case.ks.named("network"):
        own = ipv6_of(command)
        given = (command.data.ip if command.data.bootProto == "static" else "", str(own.ip) if own else "")
        for address in filter(None, given):
            if address in seen:
                yield LintFault(
                    command.location,
                    f"{address} is already defined on line {seen[address].line}",
                    "give each port its own",
                )
            seen.setdefault(address, command.location)


@rule
def netmask_form(case: Case) -> Faults:
    """A netmask is ones followed by zeros.

    Source: RFC 1519, 2.1; NetworkManager stores a prefix length.
    """
    for command in case.ks.named("network"):
        mask = _address(command.data.netmask)
        if isinstance(mask, IPv4Address) and _prefix(mask) is None:
            yield LintFault(
                command.location, f"--netmask={mask} has ones after a zero", "write it like 255.255.255.0"
            )


@rule
def address_unusable(case: Case) -> Faults:
    """The address of a host is not that of its network, its broadcast address, loopback, multicast or reserved.

    Source: RFC 1122, 3.2.1.3; RFC 6890 (0.0.0.0/8, 240.0.0.0/4); RFC 4291, 2.7.
    """
    for command in case.ks.named("network"):
        own = ipv6_of(command)
        if own is not None and (own.ip.is_multicast or own.ip.is_loopback or own.ip.is_unspecified):
            yield LintFault(
                command.location, f"--ipv6={own} is not a host address", "write it like 2001:db8::1/64"
            )
    for command in case.ks.named("network"):
        interface = interface_of(command)
        if interface is None:
            continue
        network, address = interface.network, interface.ip
        ends = _ends(network)
        wrong = address.is_multicast or address.is_loopback or any(address in each for each in RESERVED)
        if address in ends or wrong:
            yield LintFault(
                command.location,
                f"--ip={address} is not a host address in {network}",
                f"use an address from {network[1]} to {network[-2]}"
                if network.num_addresses > 2
                else "use another",
            )


def _ends(network: IPv4Network) -> tuple[IPv4Address, ...]:
    """Return the network's own and its broadcast address; networks of at most two addresses have neither."""
    return (network.network_address, network.broadcast_address) if network.prefixlen < 31 else ()


@rule
def gateway_elsewhere(case: Case) -> Faults:
    """A gateway is on the network of the port, and is another host.

    Source: RFC 1122, 3.3.1; RFC 4861, 6.3.4; NetworkManager rejects a gateway without an address.
    """
    yield from _ipv6_gateways(case)
    own = {str(c.data.ip): c.location for c in case.ks.named("network") if c.data.bootProto == "static"}
    for command in case.ks.named("network"):
        gateway, interface = _address(command.data.gateway), interface_of(command)
        if not isinstance(gateway, IPv4Address):
            continue
        if interface is not None and gateway not in interface.network:
            yield LintFault(
                command.location,
                f"--gateway={gateway} is not on the network of {interface}",
                f"use an address of {interface.network}",
            )
        elif interface is not None and gateway in (interface.ip, *_ends(interface.network)):
            yield LintFault(
                command.location,
                f"--gateway={gateway} is the port's own, the network's or the broadcast address",
                "name the router",
            )
        elif interface is not None and str(gateway) in own:
            yield LintFault(
                command.location,
                f"--gateway={gateway} is this machine's own address on line {own[str(gateway)].line}",
                "name the router",
            )


def _ipv6_gateways(case: Case) -> Faults:
    for command in case.ks.named("network"):
        gateway, own = _address(command.data.ipv6gateway), ipv6_of(command)
        if not isinstance(gateway, IPv6Address) or own is None:
            continue
        given = f"--ipv6gateway={gateway}"
        if gateway == own.ip or gateway.is_multicast:
            yield LintFault(
                command.location, f"{given} is the port's own or a multicast address", "name the router"
            )
        elif not gateway.is_link_local and gateway not in own.network:
            yield LintFault(
                command.location,
                f"{given} is not on the network of {own}",
                f"use an address of {own.network} or fe80::/10",
                risky=True,
            )


@rule
def name_server_unusable(case: Case) -> Faults:
    """A name server is another host, or a resolver on this one at a loopback address.

    Source: RFC 1122, 3.2.1.3; resolv.conf(5).
    """
    for command in case.ks.named("network"):
        own = (interface_of(command), ipv6_of(command))
        for server in str(command.data.nameserver or "").split(","):
            address = _address(server.strip())
            broadcast = [each.network.broadcast_address for each in own if each is not None]
            if address is None or address.is_loopback:
                continue
            if address.is_multicast or address.is_unspecified or address in (*broadcast, _ALL_HOSTS):
                yield LintFault(
                    command.location,
                    f"--nameserver={address} is not a host address",
                    "name the site's name server",
                )
            elif address in [each.ip for each in own if each is not None]:
                yield LintFault(
                    command.location,
                    f"--nameserver={address} is this port's own address",
                    "name the site's name server",
                    risky=True,
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
                    command.location, f"--ipv6={given} is not an address", "write it like 2001:db8::1/64"
                )
        if given and command.data.noipv6:
            yield LintFault(command.location, f"both --ipv6={given} and --noipv6", "leave one of them out")


@risk
def networks_overlap(case: Case) -> Faults:
    """With two ports on one network, or two default routes, the port that a packet leaves from is undefined.

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
                    command.location,
                    f"{interface.network} overlaps {other.network} on line {before.location.line}",
                    "give each port a different network",
                )
        seen.append((interface, command))
    routes = [c for c in case.ks.named("network") if c.data.gateway and not c.data.nodefroute]
    for command in routes[1:]:
        yield LintFault(
            command.location,
            f"a second default route, after line {routes[0].location.line}",
            "add --nodefroute to one of them",
        )


@risk
def address_without_use(case: Case) -> Faults:
    """With DHCP, the addresses of the line are not used.

    Source: RHEL's kickstart reference, `network --bootproto`.
    """
    for command in case.ks.named("network"):
        data = command.data
        unused = [option for option in ("ip", "netmask", "gateway") if command.option(option)]
        if data.bootProto == "dhcp" and unused and "--bootproto=dhcp" in command.arguments:
            yield LintFault(
                command.location,
                f"--bootproto=dhcp with --{unused[0]}",
                "write --bootproto=static, or leave it out",
            )
        if data.gateway and data.nodefroute:
            yield LintFault(
                command.location,
                f"--nodefroute: --gateway={data.gateway} is not used",
                "leave one of them out",
            )


@rule
def ipv4_form(case: Case) -> Faults:
    """--noipv4 excludes an IPv4 address and its settings.

    Source: RHEL's kickstart reference, `network --noipv4`.
    """
    for command in case.ks.named("network"):
        data = command.data
        given = [option for option in ("ip", "netmask", "gateway") if command.option(option)]
        explicit = [argument for argument in command.arguments if argument.startswith("--bootproto=")]
        if data.noipv4 and given:
            yield LintFault(command.location, f"both --noipv4 and --{given[0]}", "leave one of them out")
        elif data.noipv4 and explicit and explicit[0] != "--bootproto=static":
            yield LintFault(
                command.location, f"both --noipv4 and {explicit[0]}", "leave one of them out", risky=True
            )


def ipv6_of(command: KickstartCommand) -> IPv6Interface | None:
    """Return the fixed IPv6 address of a command with its network, or None."""
    try:
        interface = ip_interface(str(command.data.ipv6 or ""))
    except ValueError:
        return None
    return interface if isinstance(interface, IPv6Interface) else None


def interface_of(command: KickstartCommand) -> IPv4Interface | None:
    """Return the fixed IPv4 address of a command with its network, or None."""
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


def _not_addresses(location: SourceLocation, option: str, value: Any) -> Faults:
    """Report values that are no address of the option's IP version; name servers are a list with both versions."""
    example = "2001:db8::1" if option == "ipv6gateway" else "192.0.2.1"
    for text in str(value or "").split(",") if option == "nameserver" else [str(value or "")]:
        address = _address(text)
        other = (
            address is not None and option != "nameserver" and address.version != ip_address(example).version
        )
        if text not in ("", "None") and (address is None or other):
            yield LintFault(location, f"--{option}={text} is not an address", f"write it like {example}")
