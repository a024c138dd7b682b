"""Checks a box's configuration: whether the files and ports it names exist and agree with each other."""

from __future__ import annotations

import os
import ssl
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

import msgspec

from agents.box.configuration.config import BoxConfig, InstrumentPort, SessionSettings, load_config
from agents.box.intake.collector import port_limits
from agents.box.released.profiles import profiles_in_force
from agents.box.sessions.running import security_keys
from hal.unix_socket import PATH_BYTES_MAX
from netfw.policy.policy import Policy, Service
from netfw.policy.policyfile import load_policy
from settings.adapted import LaboratoryHost, adapted_problems, listening_port, shared_serial_ports
from settings.board import Board, load_board_of
from settings.problems import SettingsError
from settings.types import address_of
from wire.pki.signature import SignatureError, load_private_key, load_public_keys
from wire.process.descriptors import DESCRIPTORS_RESERVED, raise_descriptor_limit
from wire.release.metadata import MetadataError, TrustedMetadata
from wire.standards.engines import engine_problem
from wire.tls.context import client_context, server_context
from wire.tls.identity import IdentityProblem, Severity
from wire.tls.revocation import CrlError, RevocationList

SPOOL_DESCRIPTORS: Final = 256
"""Files that the spool may keep open."""


@dataclass(frozen=True, slots=True)
class CheckedConfig:
    """A checked configuration, its board and its firewall policy, which is None without [firewall].

    `identity` lists the problems that do not prevent a start: the box collects reports even while peers refuse its
    certificate, and uses a renewed certificate without a restart.
    """

    config: BoxConfig
    board: Board
    policy: Policy | None
    identity: tuple[IdentityProblem, ...] = ()

    def check_operable(self, file: Path) -> None:
        """Raise SettingsError if the certificate is refused or the spool's directory is not writable."""
        for problem in self.identity:
            if problem.severity is Severity.REFUSED:
                raise SettingsError.at(file, _identity_key(self.config, problem), str(problem))
        spool = self.config.spool.directory
        existing = next(folder for folder in (spool, *spool.parents) if folder.exists())
        if not os.access(existing, os.W_OK | os.X_OK):
            raise SettingsError.at(file, "spool.directory", f"{existing} is not writable by this user")


class DescriptorError(Exception):
    """The system allows this process too few open files; the message says how many are needed."""


def check_box(file: Path, closed: CheckedConfig | None = None) -> CheckedConfig:
    """Load and check the configuration in `file`; `closed` is the result of `check_closed` if there is one.

    Raises: SettingsError, also for the policy file; DescriptorError.
    """
    closed = closed or check_closed(file)
    config, board = closed.config, closed.board
    problems = _check_identity(file, config)
    _check_revocation(file, config)
    _check_adapted(file, config, board)
    policy = load_fitting_policy(file, config, board) if config.firewall else None
    if config.sessions is not None:
        _check_sessions(file, config, config.sessions, board, policy)
    _check_audit(file, config)
    _check_updates(file, config)
    return CheckedConfig(config, board, policy, problems)


def check_closed(file: Path) -> CheckedConfig:
    """Load the configuration in `file`, and check what a closed box needs: neither certificates nor firewall.

    Raises: SettingsError, DescriptorError.
    """
    config = load_config(file)
    _check_descriptors(file, config)
    board = _check_board(file, config)
    _check_status(file, config)
    _check_spool(file, config)
    return CheckedConfig(config, board, None)


def _check_audit(file: Path, config: BoxConfig) -> None:
    if config.audit is None or config.audit.keys is None:
        return
    try:
        load_public_keys(config.audit.keys)
    except (SignatureError, OSError) as error:
        message = f"{error}; give the keys that verify the data center's countersignatures of audit chains"
        raise SettingsError.at(file, "audit.keys", message) from error


def _check_updates(file: Path, config: BoxConfig) -> None:
    if config.updates is None:
        return
    try:
        TrustedMetadata(config.updates.root.read_bytes(), 0)
    except (MetadataError, OSError) as error:
        message = f"{config.updates.root}: {error}; give the root that the vendor signed"
        raise SettingsError.at(file, "updates.root", message) from error


def _check_revocation(file: Path, config: BoxConfig) -> None:
    if config.revocation is None:
        return
    try:
        RevocationList(config.revocation.list, config.identity.vendor_authority)
    except (CrlError, OSError) as error:
        raise SettingsError.at(file, "revocation.list", str(error)) from error


def _check_descriptors(file: Path, config: BoxConfig) -> None:
    needed = DESCRIPTORS_RESERVED + SPOOL_DESCRIPTORS
    needed += sum(port_limits(len(port.instrument)).descriptors_max for port in config.port)
    allowed = raise_descriptor_limit(needed)
    if allowed < needed:
        message = (
            f"{file}: {len(config.port)} ports need {needed} open files and connections; the system allows"
        )
        raise DescriptorError(f"{message} {allowed}; raise LimitNOFILE= of the unit, or `ulimit -n`")


def load_fitting_policy(file: Path, config: BoxConfig, board: Board) -> Policy:
    """Load the policy that the configuration in `file` names, and check that it permits what the box needs.

    Raises: SettingsError.
    """
    assert config.firewall is not None
    policy = load_policy(config.firewall.policy)
    _check_policy(file, config, board, policy)
    return policy


def _check_board(file: Path, config: BoxConfig) -> Board:
    board = load_board_of(file, config.board)
    for index, port in enumerate(config.port):
        if port.number not in board.instrument_ports:
            existing = ", ".join(map(str, board.instrument_ports))
            message = f"{board.name} has no port {port.number}; it has {existing}"
            raise SettingsError.at(file, f"port[{index}].number", message)
    return board


def _check_status(file: Path, config: BoxConfig) -> None:
    if config.status is None:
        return
    socket = config.status.socket
    if not socket.parent.is_dir():
        raise SettingsError.at(
            file, "status.socket", f"the directory {socket.parent} does not exist; create it"
        )
    if len(os.fsencode(socket)) > PATH_BYTES_MAX:
        message = f"{socket} is too long; at most {PATH_BYTES_MAX} bytes are allowed"
        raise SettingsError.at(file, "status.socket", message)


def _check_identity(file: Path, config: BoxConfig) -> tuple[IdentityProblem, ...]:
    """Return the problems that do not prevent a start. Raises: SettingsError for the others."""
    problems = config.identity.inspect(time.time()).problems
    for problem in problems:
        if problem.severity is Severity.UNUSABLE:
            raise SettingsError.at(file, _identity_key(config, problem), str(problem))
    try:
        server_context(config.identity.server_identity())
        client_context(config.identity.client_identity())
    except ssl.SSLError as error:
        raise SettingsError.at(file, "identity", f"OpenSSL rejects one of the files: {error}") from error
    return problems


def _identity_key(config: BoxConfig, problem: IdentityProblem) -> str:
    files = msgspec.structs.asdict(config.identity)
    return next(f"identity.{key}" for key, file in files.items() if file == problem.file)


def _check_spool(file: Path, config: BoxConfig) -> None:
    spool = config.spool.directory
    for folder in (spool, *spool.parents):
        if folder.exists():
            if not folder.is_dir():
                message = f"{folder} is a file; name a directory, which is created if it does not exist"
                raise SettingsError.at(file, "spool.directory", message)
            return


def _check_adapted(file: Path, config: BoxConfig, board: Board) -> None:
    """Check the settings of instruments that speak their own standard against profile, board and engine."""
    profiles, _ = profiles_in_force(config.models().values(), config.profiles)
    for index, port in enumerate(config.port):
        for position, instrument in enumerate(port.instrument):
            profile, key = profiles.get(instrument.model), f"port[{index}].instrument[{position}].adapted"
            if profile is None:
                continue  # reported at the start, and all its reports are refused
            for inner, message in adapted_problems(profile, instrument.adapted, board):
                raise SettingsError.at(file, f"{key}.{inner}".rstrip("."), message)
            if instrument.adapted and (problem := engine_problem(profile, instrument.adapted)):
                raise SettingsError.at(file, key, problem)
    instruments = [
        (index, position, instrument)
        for index, port in enumerate(config.port)
        for position, instrument in enumerate(port.instrument)
    ]
    for number, message in shared_serial_ports(instrument.adapted for _, _, instrument in instruments):
        index, position, _ = instruments[number]
        raise SettingsError.at(file, f"port[{index}].instrument[{position}].adapted.serial", message)


def _check_policy(file: Path, config: BoxConfig, board: Board, policy: Policy) -> None:
    assert config.firewall is not None
    policy_file = config.firewall.policy
    policy_interfaces = {0: policy.uplink} | {port.number: port.interface for port in policy.ports}
    board_interfaces = {0: board.uplink} | dict(board.instrument_ports)
    for number, interface in policy_interfaces.items():
        if board_interfaces.get(number) != interface:
            port_name = f"port {number}" if number else "the uplink"
            board_interface = board_interfaces.get(number, "missing")
            message = f"{port_name} is {interface} in the policy, but {board_interface} on {board.name}"
            raise SettingsError.at(
                file, "firewall.policy", f"{policy_file}: {message}; give both files the same `board`"
            )
    for index, port in enumerate(config.port):
        key, message = _policy_mismatch(port, policy, config)
        if message:
            raise SettingsError.at(file, f"port[{index}].{key}", f"{message} in {policy_file}")
        for position, instrument in enumerate(port.instrument):
            if instrument.adapted and instrument.adapted.host:
                key = f"port[{index}].instrument[{position}].adapted.host"
                _check_laboratory_host(file, key, instrument.adapted.host, policy, policy_file)
    _check_uplink_rule(file, config, policy, policy_file)


def _check_sessions(
    file: Path, config: BoxConfig, sessions: SessionSettings, board: Board, policy: Policy | None
) -> None:
    """Check what remote sessions need: keys, the ways to prove presence, and the firewall that restricts them."""
    private_key = ("sessions.key", sessions.key) if sessions.key else ("identity.key", config.identity.key)
    loaded = (
        (*private_key, load_private_key, "the box signs grants with this key"),
        ("sessions.keys", sessions.keys, load_public_keys, "the data center signs offers with these keys"),
    )
    for key, path, load, purpose in loaded:
        try:
            load(path)
        except (SignatureError, OSError) as error:
            raise SettingsError.at(file, key, f"{error}; {purpose}") from error
    if "switch" in sessions.ways and not board.switches:
        raise SettingsError.at(file, "sessions.ways", f"{board.name} has no switch; use another way")
    try:
        security_keys(sessions)
    except ValueError as error:
        raise SettingsError.at(file, "sessions.security_key", str(error)) from error
    if policy is None or policy.tunnel is None:
        table = (
            "[firewall]" if policy is None else f"[tunnel] in {config.firewall and config.firewall.policy}"
        )
        message = f"remote sessions need {table}, which restricts each to one port of one instrument"
        raise SettingsError.at(file, "sessions", message)
    if policy.tunnel.interface != sessions.device:
        message = f"{sessions.device} is not the interface of [tunnel], which is {policy.tunnel.interface}"
        raise SettingsError.at(file, "sessions.device", message)
    if not any(sessions.staff_address in network for network in policy.tunnel.staff):
        known = ", ".join(map(str, policy.tunnel.staff))
        message = f"{sessions.staff_address} is not one of the addresses of staff in [tunnel]: {known}"
        raise SettingsError.at(file, "sessions.staff", message)
    if sessions.box_address != policy.tunnel.address:
        in_policy = policy.tunnel.address or "none"
        message = (
            f"{sessions.box_address}, the box's address in this network, is not that of [tunnel]: {in_policy}"
        )
        raise SettingsError.at(file, "sessions.staff", message)
    _check_session_instruments(file, config, policy)
    endpoint = sessions.tunnel_endpoint
    address = None if config.proxy is not None else address_of(endpoint.host)
    if address is not None and not _permits(policy, address, endpoint.port):
        assert config.firewall is not None
        message = _not_permitted(config.firewall.policy, "datacenter", endpoint.host, address, endpoint.port)
        raise SettingsError.at(file, "sessions.endpoint", message)


def _check_session_instruments(file: Path, config: BoxConfig, policy: Policy) -> None:
    """Check that the policy permits remote sessions with each instrument that has an address."""
    profiles, _ = profiles_in_force(config.models().values(), config.profiles)
    for index, port in enumerate(config.port):
        for position, instrument in enumerate(port.instrument):
            profile, allowed = profiles.get(instrument.model), policy.port(port.number)
            address = address_of(instrument.address)
            if address is None or profile is None or allowed is None:
                continue
            key = f"port[{index}].instrument[{position}].address"
            if profile.desktop_port is None:
                message = (
                    f"remote sessions need `desktop_port` in the profile of {profile.model}, which lacks it"
                )
                raise SettingsError.at(file, key, message)
            if not allowed.may_have(address):
                networks = ", ".join(str(own.network) for own in allowed.addresses)
                message = f"{address} is not in a network of port {port.number} for instruments: {networks}"
                raise SettingsError.at(file, key, message)
            desktop = Service("tcp", profile.desktop_port)
            if desktop not in allowed.desktop:
                message = (
                    f'port {port.number} permits no sessions to {desktop}; add desktop = ["{desktop}"] to it'
                )
                raise SettingsError.at(file, key, f"{message} in the firewall's policy")


def _check_laboratory_host(
    file: Path, key: str, host: LaboratoryHost, policy: Policy, policy_file: Path
) -> None:
    address = ip_address(host.address)
    if not _permits(policy, address, host.tcp_port):
        raise SettingsError.at(
            file, key, _not_permitted(policy_file, "laboratory-host", host.address, address, host.tcp_port)
        )


def _permits(policy: Policy, address: IPv4Address | IPv6Address, tcp_port: int) -> bool:
    """Return whether the box may connect to this address and port."""
    service = Service("tcp", tcp_port)
    return any(
        service in entry.services and any(address in network for network in entry.networks)
        for entry in policy.authorized
    )


def _not_permitted(
    policy_file: Path, role: str, host: str, address: IPv4Address | IPv6Address, port: int
) -> str:
    correction = (
        f'[[authorized]] with role = "{role}", addresses = ["{address}"], protocol = "tcp", ports = [{port}]'
    )
    return f"{policy_file} does not permit connections to {host}, tcp/{port}; add {correction}"


def _policy_mismatch(port: InstrumentPort, policy: Policy, config: BoxConfig) -> tuple[str, str]:
    """Return the key of the port's first setting that the policy contradicts, and the message; ("", "") if none."""
    allowed = policy.port(port.number)
    if allowed is None:
        return "number", f"port {port.number} is closed; add a [[port]] with number = {port.number}"
    own = [address.ip for address in allowed.addresses]
    if address_of(port.listen) not in own:
        known = ", ".join(map(str, own))
        return "listen", f"{port.listen} is not the box's address on port {port.number}, which is {known}"
    needed = _listening_port(port, config)
    if needed is not None and Service("tcp", needed) not in allowed.services:
        offered = ", ".join(map(str, allowed.services)) or "nothing"
        return "tcp_port", f"tcp/{needed} is not a permitted service of port {port.number} ({offered})"
    return "", ""


def _listening_port(port: InstrumentPort, config: BoxConfig) -> int | None:
    """Return the TCP port on which the box serves the instruments of a port; None for a serial line."""
    for instrument in port.instrument:
        if instrument.adapted:
            profiles, _ = profiles_in_force([instrument.model], config.profiles)
            profile = profiles.get(instrument.model)
            return listening_port(profile, instrument.adapted) if profile else None
    return port.tcp_port


def _check_uplink_rule(file: Path, config: BoxConfig, policy: Policy, policy_file: Path) -> None:
    """Check that the policy permits connections to the data center or the proxy. Host names are not resolved."""
    if config.proxy is not None:
        role, key, host, port = "proxy", "proxy.host", config.proxy.host, config.proxy.port
    else:
        center = config.datacenter
        role, key = "datacenter", "datacenter.address" if center.address else "datacenter.host"
        host, port = center.address or center.host, center.port
    address = address_of(host)
    if address is None:
        return
    if not _permits(policy, address, port):
        raise SettingsError.at(file, key, _not_permitted(policy_file, role, host, address, port))
