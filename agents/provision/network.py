"""Generates network configuration from the site and its board: interface names, connections, /etc/hosts.

A board file identifies ports by the predictable interface name of their PCI slot (enp2s0). systemd prefers names from
the firmware (eno1, ens1) if there are any. A .link file for each port therefore fixes the name of the interface in
its slot (systemd.link(5), ID_PATH).
"""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID, uuid5

from settings.board import Board
from settings.site import SiteOnBox

LINKS: Final = "etc/systemd/network"
CONNECTIONS: Final = "etc/NetworkManager/system-connections"
_UUID_NAMESPACE: Final = UUID("2f0f3c0e-5d3c-5c55-9d4c-8f6c7c1c9a11")
"""Namespace of the connections' UUIDs (RFC 9562, version 5), so that they are equal in all images."""
_BY_SLOT: Final = re.compile(r"en(?:P(\d+))?p(\d+)s(\d+)(?:f(\d+))?")
"""systemd.net-naming-scheme(7): domain, bus, slot, function; decimal."""


def link_files(board: Board) -> dict[str, str]:
    """Return the .link files, by path, for ports that the board names by PCI slot; other names are not changed."""
    named = {"uplink": board.uplink} | {f"port{n}": name for n, name in board.instrument_ports.items()}
    return {
        f"{LINKS}/10-rap-{port}.link": f"[Match]\nPath={path}\n\n[Link]\nName={name}\n"
        for port, name in named.items()
        if (path := id_path(name))
    }


def id_path(interface: str) -> str:
    """Return udev's ID_PATH of the PCI slot in this interface name; "" if the name has another form."""
    match = _BY_SLOT.fullmatch(interface)
    if match is None:
        return ""
    domain, bus, slot, function = (int(part or 0) for part in match.groups())
    return f"pci-{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def connection_files(site: SiteOnBox, board: Board) -> dict[str, str]:
    """Return NetworkManager's keyfiles (nm-settings-keyfile(5)), by path; they take priority over the installer's."""
    uplink = {"method": "auto"}
    if site.uplink.address:
        uplink = {"method": "manual", "address1": f"{site.uplink.address},{site.uplink.gateway}"}
    if site.uplink.nameservers:
        uplink["dns"] = "".join(f"{server};" for server in site.uplink.nameservers)
    files = {"rap-uplink": _keyfile("rap-uplink", board.uplink, uplink)}
    for number, address in site.ports(board).items():
        ipv4 = {"method": "manual", "address1": str(address), "never-default": "true"}
        name = f"rap-port{number}"
        files[name] = _keyfile(name, board.instrument_ports[number], ipv4)
    return {f"{CONNECTIONS}/{name}.nmconnection": text for name, text in files.items()}


def networkmanager_file(board: Board) -> str:
    """Return a NetworkManager.conf(5) by which instrument ports keep their addresses without a carrier."""
    ports = "".join(f"interface-name:{name};" for name in board.instrument_ports.values())
    unmanaged = "[keyfile]\nunmanaged-devices=interface-name:rap-tun*\n"  # rap-tunnel.service creates it
    return (
        f"[main]\nno-auto-default=*\n\n{unmanaged}\n"
        f"[device-rap-instruments]\nmatch-device={ports}\nignore-carrier=yes\n"
    )


def hosts_file(site: SiteOnBox) -> str:
    """Return the content of /etc/hosts."""
    lines = ["127.0.0.1 localhost localhost.localdomain", "::1 localhost localhost.localdomain"]
    known = sorted(site.addresses.items())
    lines += [f"{address} {host}" for host, addresses in known for address in addresses]
    return (
        "# Written by /usr/lib/rap/provision from /etc/rap/site.toml; edit that file.\n"
        + "\n".join(lines)
        + "\n"
    )


def _keyfile(name: str, interface: str, ipv4: dict[str, str]) -> str:
    connection = {
        "id": name,
        "uuid": str(uuid5(_UUID_NAMESPACE, name)),
        "type": "ethernet",
        "interface-name": interface,
        "autoconnect-priority": "100",
        "autoconnect-retries": "0",
    }
    groups = {"connection": connection, "ipv4": ipv4, "ipv6": {"method": "disabled"}}
    return "\n".join(
        f"[{group}]\n" + "".join(f"{key}={value}\n" for key, value in settings.items())
        for group, settings in groups.items()
    )
