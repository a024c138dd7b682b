# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Refill of sets with thousands of exact addresses in one transaction, by netlink messages.

For 10,000 elements libnftables takes 30 ms of processor time, and creating their JSON 20 ms more; the kernel takes
4 ms. A repair must be faster than that and needs no feature of libnftables: the set exists, and an element is its key
of address, protocol and port, each padded to four bytes (linux/netfilter/nf_tables.h).
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
"""Names of the sets that can be refilled."""

ELEMENTS_MAX: Final = 1000
"""Maximum elements per message: an attribute's length has 16 bits."""
SEND_BYTES: Final = 4 * 1024 * 1024
"""Send buffer: a transaction is sent at once; 10,000 IPv6 elements take 360 kB."""
_SO_SNDBUFFORCE: Final = 32

_SUBSYSTEM: Final = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWSETELEM, _DELSETELEM = _SUBSYSTEM << 8 | 12, _SUBSYSTEM << 8 | 14
_TABLE_NAME, _SET_NAME, _ELEMENTS = 1, 2, 3
_ONE, _KEY, _VALUE = 1, 1, 1
_HEADER_BYTES: Final = 4
_PROTOCOLS: Final = {"tcp": TCP, "udp": UDP}
_ADDRESSES: Final = {AUTHORIZED[4]: (socket.AF_INET, 4), AUTHORIZED[6]: (socket.AF_INET6, 16)}
"""Address family and address length in bytes of each set."""


def refill_messages(filled: Set) -> list[bytes]:
    """Return the messages for `send` that empty this set (one of REFILLED) and fill it with its elements."""
    named = _named(filled.name)
    emptied = request(_DELSETELEM, F_ACK, netlink.FAMILIES[FAMILY], named)
    return [emptied, *_in_parts(_NEWSETELEM, named, list(_elements(filled)))]


def send(sock: socket.socket, messages: Sequence[bytes]) -> None:
    """Execute these messages in one transaction, all or none.

    The kernel accepts any key of the right length, so the caller must know that the sets have the right type. `sock`
    is a netfilter socket without other use. Raises: FirewallError (REFUSED).
    """
    begin, end = (
        request(kind, 0, socket.AF_UNSPEC, resource=_SUBSYSTEM) for kind in (_BATCH_BEGIN, _BATCH_END)
    )
    sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BYTES)
    try:
        netlink.acknowledged(sock, b"".join((begin, *messages, end)), len(messages))
    except OSError as error:
        raise FirewallError(
            FirewallErrorKind.REFUSED, f"the kernel refused the elements of a set: {error.strerror}"
        ) from error


def update_elements(
    sock: socket.socket, name: str, missing: Collection[bytes], surplus: Collection[bytes]
) -> None:
    """Add the `missing` elements to a set of REFILLED and delete the `surplus` ones, all or none.

    Elements are as dumped by the kernel. `sock` is a netfilter socket without other use. Raises: FirewallError
    (REFUSED).
    """
    _, length = _ADDRESSES[name]
    key = length + len(_service("tcp", 0))
    before = _before(key, nested=NESTED)
    named = _named(name)
    messages = [*_in_parts(_DELSETELEM, named, [before + _key(each)[:key] for each in surplus])]
    messages += _in_parts(_NEWSETELEM, named, [before + _key(each)[:key] for each in missing])
    send(sock, messages)


def _key(element: bytes) -> bytes:
    """Return the key of an element, which may also have a comment or a timeout."""
    fields = attributes(element[_HEADER_BYTES:])
    return attributes(fields[_KEY])[_VALUE]


def holds_exactly(wanted: Set, elements: Collection[bytes]) -> bool:
    """Return whether these elements, as dumped by the kernel, are exactly those of a set of REFILLED."""
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
    """Yield messages about a set's elements, at most ELEMENTS_MAX in each."""
    flags = F_ACK | (netlink.F_CREATE if kind == _NEWSETELEM else 0)
    for start in range(0, len(elements), ELEMENTS_MAX):
        part = attribute(_ELEMENTS | NESTED, b"".join(elements[start : start + ELEMENTS_MAX]))
        yield request(kind, flags, netlink.FAMILIES[FAMILY], named + part)


def _elements(filled: Set) -> Iterator[bytes]:
    """Encode a set's elements; all have the same length and the same bytes before the key."""
    family, length = _ADDRESSES[filled.name]
    before = _before(length + len(_service("tcp", 0)), nested=NESTED)
    services = cache(_service)  # there are few, for thousands of addresses
    for element in filled.elements:
        address, *service = element["concat"]
        yield before + socket.inet_pton(family, address) + services(*service)


def _before(key_bytes: int, nested: int) -> bytes:
    """Return the headers of an element. The kernel requires the flag NESTED, but does not set it in dumps."""
    key = bytes(key_bytes)
    return attribute(_ONE | nested, attribute(_KEY | nested, attribute(_VALUE, key))).removesuffix(key)


def _service(protocol: str, port: int) -> bytes:
    return bytes((_PROTOCOLS[protocol], 0, 0, 0)) + port.to_bytes(2, "big") + bytes(2)


def _text(name: str) -> bytes:
    return name.encode() + b"\0"
