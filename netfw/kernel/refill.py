# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Sets of thousands of exact addresses, filled again in one transaction, by netlink's own messages.

libnftables takes 30 ms of processor time for 10,000 elements, and making their JSON 20 more; the kernel takes 4. A
repair has not the time for all that, and needs nothing that libnftables knows: the set is there, and an element is
its key, which is address, protocol and port, each padded to four bytes (linux/netfilter/nf_tables.h).
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import Final

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.kernel import netlink
from netfw.kernel.netlink import F_ACK, NESTED, attribute, attributes, request
from netfw.model.packet import TCP, UDP
from netfw.ruleset.names import FAMILY, TABLE
from netfw.ruleset.sets import AUTHORIZED, Set

REFILLED: Final = frozenset(AUTHORIZED.values())
"""Names of the sets that this can fill."""

ELEMENTS_MAX: Final = 1000
"""Of a message: an attribute's length has 16 bits."""
SEND_BYTES: Final = 4 * 1024 * 1024
"""A transaction is sent at once; 10,000 elements of IPv6 are 360 kB."""
_SO_SNDBUFFORCE: Final = 32

_SUBSYSTEM: Final = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWSETELEM, _DELSETELEM = _SUBSYSTEM << 8 | 12, _SUBSYSTEM << 8 | 14
_TABLE_NAME, _SET_NAME, _ELEMENTS = 1, 2, 3
_ONE, _KEY, _VALUE = 1, 1, 1
_HEADER_BYTES: Final = 4
_PROTOCOLS: Final = {"tcp": TCP, "udp": UDP}
_ADDRESSES: Final = {AUTHORIZED[4]: (socket.AF_INET, 4), AUTHORIZED[6]: (socket.AF_INET6, 16)}
"""Of each set: address family, and bytes."""


def filling(filled: Set) -> list[bytes]:
    """The messages that empty this set, one of REFILLED, and fill it with its elements: for `send`."""
    named = _named(filled.name)
    emptied = request(_DELSETELEM, F_ACK, netlink.FAMILIES[FAMILY], named)
    return [emptied, *_in_parts(_NEWSETELEM, named, list(_elements(filled)))]


def send(sock: socket.socket, messages: Sequence[bytes]) -> None:
    """Do what these messages say in one transaction: all of it or nothing.

    The kernel takes what has the length of a key: who knows the sets to be of their type calls this. `sock` is a
    netfilter socket for this alone. Raises: FirewallError (REFUSED).
    """
    begin, end = (
        request(kind, 0, socket.AF_UNSPEC, resource=_SUBSYSTEM) for kind in (_BATCH_BEGIN, _BATCH_END)
    )
    sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BYTES)
    try:
        netlink.acknowledged(sock, b"".join((begin, *messages, end)), len(messages))
    except OSError as error:
        raise FirewallError(
            FirewallErrorKind.REFUSED, f"the kernel does not take a set's elements: {error.strerror}"
        ) from error


def mend(sock: socket.socket, name: str, missing: Collection[bytes], beyond: Collection[bytes]) -> None:
    """Add to one of the sets in REFILLED the elements that are missing, and delete those beyond it; all or none.

    Both are as the kernel dumps them. `sock` is a netfilter socket for this alone. Raises: FirewallError (REFUSED).
    """
    _, length = _ADDRESSES[name]
    key = length + len(_service("tcp", 0))
    before = _before(key, nested=NESTED)
    named = _named(name)
    messages = [*_in_parts(_DELSETELEM, named, [before + _key(each)[:key] for each in beyond])]
    messages += _in_parts(_NEWSETELEM, named, [before + _key(each)[:key] for each in missing])
    send(sock, messages)


def _key(element: bytes) -> bytes:
    """The key of an element, which may have a comment or a timeout beside it."""
    given = attributes(element[_HEADER_BYTES:])
    return attributes(given[_KEY])[_VALUE]


def holds_exactly(wanted: Set, elements: Collection[bytes]) -> bool:
    """Whether these, as the kernel dumps them, are the elements of one of the sets in REFILLED and nothing more."""
    if len(elements) != len(wanted.elements):
        return False
    family, length = _ADDRESSES[wanted.name]
    key = length + len(_service("tcp", 0))
    before = _before(key, nested=0)
    services = cache(_service)
    return all(
        before + socket.inet_pton(family, address) + services(*service) in elements
        for address, *service in (element["concat"] for element in wanted.elements)
    )


def _named(name: str) -> bytes:
    return attribute(_TABLE_NAME, _text(TABLE)) + attribute(_SET_NAME, _text(name))


def _in_parts(kind: int, named: bytes, elements: list[bytes]) -> Iterator[bytes]:
    """Messages about the elements of a set, each of a size that fits."""
    flags = F_ACK | (netlink.F_CREATE if kind == _NEWSETELEM else 0)
    for at in range(0, len(elements), ELEMENTS_MAX):
        some = attribute(_ELEMENTS | NESTED, b"".join(elements[at : at + ELEMENTS_MAX]))
        yield request(kind, flags, netlink.FAMILIES[FAMILY], named + some)


def _elements(filled: Set) -> Iterator[bytes]:
    """All are of one length, and so alike before the key."""
    family, length = _ADDRESSES[filled.name]
    before = _before(length + len(_service("tcp", 0)), nested=NESTED)
    services = cache(_service)  # few, for thousands of addresses
    for element in filled.elements:
        address, *service = element["concat"]
        yield before + socket.inet_pton(family, address) + services(*service)


def _before(key_bytes: int, nested: int) -> bytes:
    """The headers of an element. The kernel wants the flag NESTED, and does not set it in what it dumps."""
    key = bytes(key_bytes)
    return attribute(_ONE | nested, attribute(_KEY | nested, attribute(_VALUE, key))).removesuffix(key)


def _service(protocol: str, port: int) -> bytes:
    return bytes((_PROTOCOLS[protocol], 0, 0, 0)) + port.to_bytes(2, "big") + bytes(2)


def _text(name: str) -> bytes:
    return name.encode() + b"\0"
