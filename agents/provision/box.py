"""The box program's two files, as they follow from the site: box.toml (`agents.box.config`) and firewall.toml
(netfw)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from settings.board import Board
from settings.site import BoxSite

IDENTITY: Final = "/var/lib/rap/identity"
"""On the partition that is encrypted where the site wants LUKS, and that an update of the system leaves alone."""
COLLECTOR: Final = 443
"""The TCP port that instruments report to."""


def box_file(site: BoxSite, board: Board) -> str:
    """box.toml."""
    far_end: dict[str, Any] = {"host": site.datacenter.host, "port": site.datacenter.port}
    if site.proxy is None:
        far_end["address"] = site.addresses_of(site.datacenter.host)[0]
    identity = {
        "certificate": f"{IDENTITY}/box.crt",
        "key": f"{IDENTITY}/box.key",
        "vendor_authority": f"{IDENTITY}/vendor-ca.crt",
        "datacenter_authority": f"{IDENTITY}/datacenter-root.crt",
    }
    tables: list[tuple[str, dict[str, Any]]] = [
        ("", {"board": site.board}),
        ("[identity]", identity),
        ("[datacenter]", far_end),
    ]
    if proxy := site.proxy:
        tables.append(("[proxy]", proxy.keys()))
    for number, address in site.ports(board).items():
        serials = sorted(instrument.serial for instrument in site.instrument if instrument.port == number)
        port: dict[str, Any] = {
            "number": number,
            "listen": str(address.ip),
            "tcp_port": COLLECTOR,
            "instruments": serials,
        }
        tables.append(("[[port]]", port))
    tables += [
        ("[spool]", {"directory": "/var/lib/rap/spool"}),
        ("[status]", {"socket": "/run/rap/box.sock"}),
        ("[firewall]", {"policy": "firewall.toml", "socket": "/run/rap-firewall/socket"}),
        ("[clock]", {"service": "/run/rap-clock.sock"}),
    ]
    return _toml(tables)


def firewall_file(site: BoxSite, board: Board) -> str:
    """firewall.toml: out to what the site names, in from the instruments to the collector."""
    tables: list[tuple[str, dict[str, Any]]] = [("", {"board": site.board})]
    if not site.uplink.address:
        tables.append(("[uplink]", {"dhcp": True}))
    for role, addresses, protocol, port in _ways_out(site):
        entry: dict[str, Any] = {"role": role, "addresses": addresses, "protocol": protocol, "ports": [port]}
        tables.append(("[[authorized]]", entry))
    for number, address in site.ports(board).items():
        entry = {"number": number, "addresses": [str(address)], "services": [f"tcp/{COLLECTOR}"]}
        tables.append(("[[port]]", entry))
    return _toml(tables)


def _ways_out(site: BoxSite) -> Iterator[tuple[str, list[str], str, int]]:
    """Roles, addresses, protocols and ports. Behind a proxy, the data center is the proxy's to reach."""
    if site.proxy:
        yield "proxy", site.addresses_of(site.proxy.host), "tcp", site.proxy.port
    else:
        yield "datacenter", site.addresses_of(site.datacenter.host), "tcp", site.datacenter.port
    if names := site.uplink.nameservers:
        yield "names", names, "udp", 53
        yield "names", names, "tcp", 53
    times = [address for server in site.time_servers for address in site.addresses_of(server)]
    if times:
        yield "time", list(dict.fromkeys(times)), "udp", 123
    if audit := site.addresses_of(site.audit.host):
        yield "audit-log", audit, "tcp", site.audit.port


def _toml(tables: list[tuple[str, dict[str, Any]]]) -> str:
    """JSON's strings, numbers and lists are TOML's too."""
    head = "# Written by /usr/lib/rap/provision from /etc/rap/site.toml; change that.\n"
    blocks = [
        "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in table.items())
        for _, table in tables
    ]
    names = [f"\n{name}\n" if name else "" for name, _ in tables]
    return head + "".join(name + block for name, block in zip(names, blocks, strict=True))
