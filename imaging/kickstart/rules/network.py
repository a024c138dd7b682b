"""Addresses, host names and devices of the installed system's network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, ip_address, ip_interface
from typing import Any, Final

from imaging.kickstart.document import KickstartCommand, Spot
from imaging.kickstart.limits import HOST_NAME, HOST_NAME_MAX
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule

MAC: Final = re.compile(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")
BY_KIND: Final = ("link", "bootif", "ibft")
DEVICE: Final = re.compile(r"[^/\s:]{1,15}")
"""IFNAMSIZ is 16 with the final NUL; dev_valid_name() in net/core/dev.c."""
BOND_MODES: Final = (
    *("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"),
    *map(str, range(7)),
)
BOND_OPTIONS: Final = (
    *(
        "mode",
        "miimon",
        "updelay",
        "downdelay",
        "arp_interval",
        "arp_ip_target",
        "arp_validate",
        "arp_all_targets",
    ),
    *(
        "primary",
        "primary_reselect",
        "fail_over_mac",
        "use_carrier",
        "ad_select",
        "xmit_hash_policy",
        "resend_igmp",
    ),
    *(
        "lacp_rate",
        "active_slave",
        "all_slaves_active",
        "min_links",
        "num_grat_arp",
        "num_unsol_na",
        "lp_interval",
    ),
    *("packets_per_slave", "tlb_dynamic_lb", "ad_actor_sys_prio", "ad_actor_system", "ad_user_port_key"),
    *("ns_ip6_target", "lacp_active", "peer_notif_delay", "arp_missed_max", "balance-slb"),
)
MTU: Final = range(68, 65536)
"""RFC 791: every host forwards 68 bytes; a datagram has 65,535 at most."""
VLAN_MOST: Final = 4094


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


@risk
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
                f"--ip={address} is no address of a host in {network}",
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


@rule
def vlan_id(case: Case) -> Faults:
    """VLAN ids are 1 to 4094.

    Source: IEEE 802.1Q, 9.6.
    """
    for command in case.ks.named("network"):
        given = str(command.data.vlanid or "")
        if given and not (given.isdecimal() and 1 <= int(given) <= VLAN_MOST):
            yield LintFault(
                command.spot, f"--vlanid={given} is not a VLAN id", f"write a number from 1 to {VLAN_MOST}"
            )


@rule
def mtu_form(case: Case) -> Faults:
    """An MTU is a number of bytes.

    Source: RFC 791, 3.2 (68 to 65535); RFC 8200, 5 (IPv6 needs 1280).
    """
    for command in case.ks.named("network"):
        given = str(command.data.mtu or "")
        if given and not (given.isdecimal() and int(given) in MTU):
            yield LintFault(command.spot, f"--mtu={given} is not an MTU", "write a number such as 1500")


@rule
def host_name_form(case: Case) -> Faults:
    """A host name has letters, digits, hyphens and dots, and 64 characters at most.

    Source: RFC 1123, 2.1; Anaconda, `is_valid_hostname`.
    """
    for command in case.ks.named("network"):
        name = str(command.data.hostname or "")
        if name and (not HOST_NAME.fullmatch(name) or len(name) > HOST_NAME_MAX):
            yield LintFault(
                command.spot,
                f"{name!r} is not a host name",
                "use letters, digits, hyphens and dots: 63 in each part, 64 in all",
            )


@rule
def device_name_form(case: Case) -> Faults:
    """The kernel's names of network devices have at most 15 characters, none of them a slash, a colon or a space.

    Source: Linux, `dev_valid_name`.
    """
    for command in case.ks.named("network"):
        data = command.data
        members = [*_names(data.bondslaves), *_names(data.bridgeslaves)]
        for name in [data.device, getattr(data, "interfacename", ""), *members]:
            if name and not MAC.fullmatch(name) and not DEVICE.fullmatch(name):
                yield LintFault(
                    command.spot,
                    f"{name!r} is not a network device",
                    "use at most 15 characters without / : and spaces",
                )


@rule
def member_devices(case: Case) -> Faults:
    """A device belongs to one bond or bridge, which is not its own member and has the addresses.

    Source: ip-link(8), master; NetworkManager, nm-settings-nmcli(5), controller.
    """
    owner: dict[str, Spot] = {}
    for command in case.ks.named("network"):
        data = command.data
        for name in [*_names(data.bondslaves), *_names(data.bridgeslaves)]:
            if name in owner or name == data.device:
                yield LintFault(
                    command.spot,
                    f"{name} is already a member in line {owner.get(name, command.spot).line}",
                    "name each member once, and not the bond or bridge itself",
                )
            owner.setdefault(name, command.spot)
    for command in case.ks.named("network"):
        if command.data.device in owner and command.data.bootProto == "static" and not command.data.vlanid:
            yield LintFault(
                command.spot,
                f"{command.data.device} is a member of a bond or bridge and has an address",
                "give the address to the bond or bridge",
            )


@rule
def bond_options(case: Case) -> Faults:
    """Bonding options are NAME=VALUE pairs that the kernel knows; Anaconda leaves out the others.

    Source: Linux, `Documentation/networking/bonding.rst`; Anaconda, `network/nm_client.py`.
    """
    for command in case.ks.named("network"):
        text = str(command.data.bondopts or "")
        for word in [word for word in re.split(r"[;,](?=[a-z_]+=)|;", text) if word]:
            name, sign, value = word.partition("=")
            if not sign or name not in BOND_OPTIONS or (name == "mode" and value not in BOND_MODES):
                yield LintFault(
                    command.spot,
                    f"{word!r} is not a bonding option",
                    "write it like mode=active-backup,miimon=100",
                )
        if text and not command.data.bondslaves:
            yield LintFault(command.spot, "--bondopts without --bondslaves", "name the members")


@risk
def device_twice(case: Case) -> Faults:
    """The later of two lines for one device applies; likewise of two host names and default routes.

    Source: pykickstart, "has already been defined"; Anaconda, `network/kickstart.py`.
    """
    devices: dict[str, Spot] = {}
    names: dict[str, Spot] = {}
    for command in case.ks.named("network"):
        data = command.data
        key = f"{data.device} vlan {data.vlanid}" if data.vlanid else data.device
        if data.device and key in devices:
            yield LintFault(
                command.spot, f"{key} is already configured in line {devices[key].line}", "write one line"
            )
        devices.setdefault(key, command.spot)
        if data.hostname and names and data.hostname not in names:
            (first, spot), *_ = names.items()
            yield LintFault(
                command.spot, f"the host name is {first} in line {spot.line}", "state one host name"
            )
        if data.hostname:
            names.setdefault(data.hostname, command.spot)


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
                    "give each port a network of its own",
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


def _names(value: Any) -> Iterator[str]:
    yield from (name.strip() for name in str(value or "").split(",") if name.strip())


def _not_addresses(spot: Spot, option: str, value: Any) -> Faults:
    for word in str(value or "").split(","):
        try:
            if word not in ("", "None"):
                ip_address(word)
        except ValueError:
            yield LintFault(spot, f"--{option}={word} is not an address", "write it like 192.0.2.1")
