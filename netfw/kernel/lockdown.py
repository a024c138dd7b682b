# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Replaces the firewall's table, whatever it contains, with one that drops every packet, in one transaction.

libnftables reads sets, maps and objects before it changes a table, and fails if it does not support one of them. The
kernel itself deletes a table without such knowledge.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.kernel import netlink
from netfw.kernel.netlink import F_ACK, F_CREATE, NESTED, attribute, request
from netfw.ruleset.names import FAMILY, TABLE

OWNED: Final = (
    "the kernel does not replace the table: another process owns it (flags owner) and must remove it"
)
"""Why the kernel refuses the change even to root."""

_SUBSYSTEM: Final = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN = 0, 2, 3
_TABLE_NAME, _CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 1, 1, 3, 4, 5, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_DROP: Final = 0
_HOOKS: Final = {"prerouting": (0, -300), "input": (1, 0), "forward": (2, 0), "output": (3, 0)}
"""The base chains of the ruleset: hook number (NF_INET_*) and priority."""


def drop_everything(sock: socket.socket) -> None:
    """Replace the table with one that drops everything. `sock` is a netfilter socket that is not used otherwise.

    Raises:
        FirewallError: the kernel refused (REFUSED), for example because another process owns the table.
    """
    begin, end = (
        request(kind, 0, socket.AF_UNSPEC, resource=_SUBSYSTEM) for kind in (_BATCH_BEGIN, _BATCH_END)
    )
    commands = list(_commands())
    try:
        netlink.acknowledged(sock, b"".join((begin, *commands, end)), len(commands))
    except OSError as error:
        raise FirewallError(FirewallErrorKind.REFUSED, _reason(error)) from error


def _reason(error: OSError) -> str:
    return (
        OWNED
        if isinstance(error, PermissionError)
        else f"the kernel does not replace the table: {error.strerror}"
    )


def _commands() -> Iterator[bytes]:
    family, table = netlink.FAMILIES[FAMILY], attribute(_TABLE_NAME, TABLE.encode() + b"\0")
    yield _message(_NEW_TABLE, family, table)  # so that the table exists when it is deleted
    yield _message(_DELETE_TABLE, family, table)
    yield _message(_NEW_TABLE, family, table)
    for name, (number, priority) in _HOOKS.items():
        hook = attribute(_HOOK_NUMBER, struct.pack("!I", number))
        hook += attribute(_HOOK_PRIORITY, struct.pack("!i", priority))
        chain = attribute(_CHAIN_TABLE, TABLE.encode() + b"\0") + attribute(
            _CHAIN_NAME, name.encode() + b"\0"
        )
        chain += attribute(_CHAIN_HOOK | NESTED, hook) + attribute(_CHAIN_POLICY, struct.pack("!I", _DROP))
        yield _message(_NEW_CHAIN, family, chain + attribute(_CHAIN_TYPE, b"filter\0"))


def _message(kind: int, family: int, body: bytes) -> bytes:
    return request(_SUBSYSTEM << 8 | kind, F_ACK | F_CREATE, family, body)
