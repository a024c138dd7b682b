"""Addresses, name and time servers, hosts, proxy and remote sessions, from the files that provisioning writes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from configparser import ConfigParser, Error
from typing import Any, Final

from trust.evidence import Evidence
from trust.fact import Fact, fact, names, settings_lines
from trust.machine import ExaminedBox

CONNECTIONS: Final = "/etc/NetworkManager/system-connections/*"
CHRONY: Final = ("/etc/chrony.conf", "/etc/chrony.d/*", "/etc/chrony/chrony.conf", "/etc/chrony/sources.d/*")


def facts(machine: ExaminedBox) -> Iterator[Fact]:
    """Yield the network settings of the box."""
    yield from _connections(machine)
    if hosts := machine.file("/etc/hosts"):
        known = [line for line in settings_lines(hosts.text) if "localhost" not in line]
        yield fact("network.hosts", sorted(known), hosts)
    if resolver := machine.file("/etc/resolv.conf"):
        yield fact("network.resolver", settings_lines(resolver.text), resolver)
    yield from _time_servers(machine)
    yield from _box_settings(machine)


def _connections(machine: ExaminedBox) -> Iterator[Fact]:
    listed = machine.paths(CONNECTIONS)
    addresses, servers, read = list[str](), list[str](), [listed]
    for path in names(listed):
        file = machine.file(path)
        profile = ConfigParser(interpolation=None, strict=False)
        try:
            profile.read_string(file.text if file else "")
        except Error:
            continue
        if file is None or "connection" not in profile:
            continue
        read.append(file)
        name = profile["connection"].get("interface-name", "any interface")
        ipv4 = dict(profile["ipv4"]) if profile.has_section("ipv4") else {}
        addresses.append(f"{name} {ipv4.get('method', 'auto')} {ipv4.get('address1', '')}".rstrip())
        servers += [server for server in ipv4.get("dns", "").split(";") if server]
    if len(read) > 1:
        yield fact("network.addresses", sorted(addresses), *read)
        yield fact("network.name-servers", servers, *read)


def _time_servers(machine: ExaminedBox) -> Iterator[Fact]:
    files: list[Evidence] = []
    for pattern in CHRONY:
        paths = names(machine.paths(pattern)) if "*" in pattern else [pattern]
        files += [file for path in paths if (file := machine.file(path))]
    if files:
        lines = [line for file in files for line in settings_lines(file.text)]
        chosen = [
            line
            for line in lines
            if line.split()[0] in ("server", "pool", "peer", "allow", "port", "cmdport")
        ]
        yield fact("time.servers", chosen, *files)


def _box_settings(machine: ExaminedBox) -> Iterator[Fact]:
    file = machine.file("/etc/rap/box.toml")
    if file is None:
        return
    try:
        box = tomllib.loads(file.text)
    except tomllib.TOMLDecodeError:
        return
    yield fact("box.data-center", _location(box.get("datacenter")), file)
    proxy = box.get("proxy")
    yield fact("box.proxy", [f"{proxy['kind']} {proxy['host']}:{proxy['port']}"] if proxy else [], file)
    yield fact("box.instruments", sorted(_instruments(box)), file)
    sessions = box.get("sessions")
    yield fact("box.sessions", _sessions(sessions) if sessions else [], file)
    identity = box.get("identity", {})
    yield fact("box.identity-files", [f"{key} {value}" for key, value in sorted(identity.items())], file)


def _location(center: Any) -> list[str]:
    if not isinstance(center, dict):
        return []
    address = f" ({center['address']})" if center.get("address") else ""
    return [f"{center.get('host')}:{center.get('port', 443)}{address}"]


def _instruments(box: dict[str, Any]) -> Iterator[str]:
    for port in box.get("port", []):
        for instrument in port.get("instrument", []):
            adapted = instrument.get("adapted")
            speaks = f" speaks {adapted.get('standard', 'its own standard')}" if adapted else ""
            yield f"port {port['number']} {instrument['serial']} {instrument['model']}{speaks}"


def _sessions(sessions: dict[str, Any]) -> list[str]:
    return [f"endpoint {sessions['endpoint']}", *(f"permitted by {way}" for way in sessions.get("ways", []))]
