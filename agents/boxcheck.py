"""Whether what a box's configuration names is there, and fits together."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import msgspec

from agents.collector import port_limits
from agents.config import BoxConfig, ConfigError, Port, load_config
from agents.status import SOCKET_PATH_BYTES_MAX
from hal.board import Board, BoardError, load_board
from netfw.policy import Address, Policy, Service
from netfw.policyfile import load_policy
from wire.descriptors import DESCRIPTORS_BESIDE, allow_descriptors
from wire.tls import client_context, server_context

SPOOL_DESCRIPTORS: Final = 256
"""What the spool may keep open."""


@dataclass(frozen=True, slots=True)
class CheckedConfig:
    """A configuration with what it names. `policy` is None without [firewall]."""

    config: BoxConfig
    board: Board
    policy: Policy | None


class DescriptorError(Exception):
    """The system allows this process too few open files; the message says how many it needs."""


def check_box(file: Path) -> CheckedConfig:
    """The configuration in `file` and what it names, if that is there and fits together.

    Errors: ConfigError; PolicyError for what is wrong within the policy file; DescriptorError.
    """
    config = load_config(file)
    _check_descriptors(file, config)
    board = _check_board(file, config)
    _check_identity(file, config)
    _check_status(file, config)
    policy = fitting_policy(file, config, board) if config.firewall else None
    return CheckedConfig(config, board, policy)


def _check_descriptors(file: Path, config: BoxConfig) -> None:
    needed = DESCRIPTORS_BESIDE + SPOOL_DESCRIPTORS
    needed += sum(port_limits(len(port.instruments)).descriptors_max for port in config.port)
    allowed = allow_descriptors(needed)
    if allowed < needed:
        message = f"{file}: {len(config.port)} ports need {needed} open files and connections, and the system allows"
        raise DescriptorError(f"{message} {allowed}; raise LimitNOFILE= of the unit, or `ulimit -n`")


def fitting_policy(file: Path, config: BoxConfig, board: Board) -> Policy:
    """The policy that the configuration in `file` names, if it lets the box do what it is to do.

    Errors: ConfigError, PolicyError.
    """
    assert config.firewall is not None
    policy = load_policy(config.firewall.policy)
    _check_policy(file, config, board, policy)
    return policy


def _check_board(file: Path, config: BoxConfig) -> Board:
    try:
        board = load_board(config.board)
    except BoardError as error:
        raise ConfigError(file, "board", str(error)) from error
    for index, port in enumerate(config.port):
        if port.number not in board.instrument_ports:
            there_are = ", ".join(map(str, board.instrument_ports))
            message = f"{board.name} has no port {port.number}; it has {there_are}"
            raise ConfigError(file, f"port[{index}].number", message)
    return board


def _check_status(file: Path, config: BoxConfig) -> None:
    if config.status is None:
        return
    socket = config.status.socket
    if not socket.parent.is_dir():
        raise ConfigError(file, "status.socket", f"there is no folder {socket.parent}; make it first")
    if len(os.fsencode(socket)) > SOCKET_PATH_BYTES_MAX:
        message = f"{socket} is too long; the system allows {SOCKET_PATH_BYTES_MAX} bytes"
        raise ConfigError(file, "status.socket", message)


def _check_identity(file: Path, config: BoxConfig) -> None:
    for key, pem in msgspec.structs.asdict(config.identity).items():
        try:
            pem.open("rb").close()
        except OSError as error:
            message = f"{pem}: {error.strerror}; give a PEM file that can be read"
            raise ConfigError(file, f"identity.{key}", message) from error
    try:
        server_context(config.identity.towards_instruments())
        client_context(config.identity.towards_datacenter())
    except ssl.SSLError as error:
        message = f"one of the files is not PEM, or `key` is not the key of `certificate`: {error}"
        raise ConfigError(file, "identity", message) from error


def _check_policy(file: Path, config: BoxConfig, board: Board, policy: Policy) -> None:
    assert config.firewall is not None
    policy_file = config.firewall.policy
    theirs = {0: policy.uplink} | {port.number: port.interface for port in policy.ports}
    ours = {0: board.uplink} | dict(board.instrument_ports)
    for number, interface in theirs.items():
        if ours.get(number) != interface:
            what = f"port {number}" if number else "the uplink"
            message = f"{what} is {interface} there, and {ours.get(number, 'missing')} on {board.name}"
            raise ConfigError(
                file, "firewall.policy", f"{policy_file}: {message}; give both files the same `board`"
            )
    for index, port in enumerate(config.port):
        key, message = _misfit_of_port(port, policy)
        if message:
            raise ConfigError(file, f"port[{index}].{key}", f"{message} in {policy_file}")
    _check_way_out(file, config, policy, policy_file)


def _misfit_of_port(port: Port, policy: Policy) -> tuple[str, str]:
    """The key and what is wrong with it; two empty strings if the policy has the port as the box wants it."""
    allowed = policy.port(port.number)
    if allowed is None:
        return "number", f"port {port.number} is closed; add a [[port]] with number = {port.number}"
    own = [address.ip for address in allowed.addresses]
    if _address(port.listen) not in own:
        known = ", ".join(map(str, own))
        return "listen", f"{port.listen} is not the box's address on port {port.number}, which is {known}"
    if Service("tcp", port.tcp_port) not in allowed.services:
        offered = ", ".join(map(str, allowed.services)) or "nothing"
        return "tcp_port", f"tcp/{port.tcp_port} is not among port {port.number}'s services, {offered},"
    return "", ""


def _check_way_out(file: Path, config: BoxConfig, policy: Policy, policy_file: Path) -> None:
    """Names are not looked up: what they lead to may change."""
    if config.proxy is not None:
        role, key, host, port = "proxy", "proxy.host", config.proxy.host, config.proxy.port
    else:
        center = config.datacenter
        role, key = "datacenter", "datacenter.address" if center.address else "datacenter.host"
        host, port = center.address or center.host, center.port
    address = _address(host)
    if address is None:
        return
    service = Service("tcp", port)
    if not any(
        service in entry.services and any(address in network for network in entry.networks)
        for entry in policy.authorized
    ):
        right = f'[[authorized]] with role = "{role}", addresses = ["{address}"], protocol = "tcp", ports = [{port}]'
        raise ConfigError(
            file, key, f"{policy_file} does not let the box go to {host}, {service}; add {right}"
        )


def _address(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
