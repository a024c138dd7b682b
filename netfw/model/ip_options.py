# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Model of the IP options that the kernel accepts in received packets.

IPv6 hop-by-hop options (RFC 8200 section 4.3) are checked before any chain; IPv4 options (RFC 791) between the
prerouting chains and the input or forward chain. Source: Linux net/ipv6/exthdrs.c ip6_parse_tlv,
net/ipv4/ip_options.c __ip_options_compile and net/ipv4/ip_input.c ip_rcv_options, 6.x, with source routes disabled
and without a CIPSO or CALIPSO domain, as on the box.
"""

from __future__ import annotations

from typing import Final

IPV4_HEADER_BYTES: Final = 20
HOP_BY_HOP_AT: Final = 40
HOP_BY_HOP_OPTIONS_MAX: Final = 8
"""Excluding padding (net.ipv6.max_hbh_opts_number)."""
PADDING_BYTES_MAX: Final = 7
IPV6_PAYLOAD_BYTES_MAX: Final = 65535

_END, _NO_OPERATION, _RECORD, _TIMESTAMP, _CIPSO, _ALERT = 0, 1, 7, 68, 134, 148
_SOURCE_ROUTES: Final = (131, 137)
_WITH_ADDRESS: Final = (1, 3)
"""Timestamp options with addresses take eight bytes per entry."""
_ADDRESSES_GIVEN: Final = 3
_OVERFLOW_MAX: Final = 15
_PAD1, _PADN, _ROUTER_ALERT, _CALIPSO, _IOAM, _JUMBO = 0, 1, 5, 7, 49, 194


def ipv4_options_are_valid(data: bytes) -> bool:
    """Return whether the kernel accepts the options of a received IPv4 packet."""
    at, end = IPV4_HEADER_BYTES, (data[0] & 15) * 4
    seen: set[int] = set()
    while at < end and data[at] != _END:
        kind = data[at]
        if kind == _NO_OPERATION:
            at += 1
            continue
        length = data[at + 1] if at + 1 < end else 0
        if not 2 <= length <= end - at or not _option_is_valid(kind, data[at : at + length], seen):
            return False
        at += length
    return True


def _option_is_valid(kind: int, option: bytes, seen: set[int]) -> bool:
    if kind in (_RECORD, _TIMESTAMP):
        if kind in seen:
            return False
        seen.add(kind)
        return _record_route_is_valid(option) if kind == _RECORD else _timestamp_is_valid(option)
    if kind == _ALERT:
        return len(option) >= 4
    return kind not in (*_SOURCE_ROUTES, _CIPSO)


def _record_route_is_valid(option: bytes) -> bool:
    """Verify a record route option: the pointer is after the first three bytes, with four bytes at its target."""
    if len(option) < 3 or option[2] < 4:
        return False
    return option[2] > len(option) or option[2] + 3 <= len(option)


def _timestamp_is_valid(option: bytes) -> bool:
    if len(option) < 4 or option[2] < 5:
        return False
    pointer, kind, overflow = option[2], option[3] & 0xF, option[3] >> 4
    if pointer > len(option):
        return kind == _ADDRESSES_GIVEN or overflow != _OVERFLOW_MAX
    return pointer + (7 if kind in _WITH_ADDRESS else 3) <= len(option)


def hop_by_hop_options_are_valid(data: bytes) -> bool:
    """Return whether the kernel accepts the hop-by-hop options of a received IPv6 packet."""
    if len(data) < HOP_BY_HOP_AT + 8:
        return False
    end = HOP_BY_HOP_AT + (data[HOP_BY_HOP_AT + 1] + 1) * 8
    if end > len(data):
        return False
    at, padding, options = HOP_BY_HOP_AT + 2, 0, 0
    while at < end:
        kind = data[at]
        length = 1 if kind == _PAD1 else data[at + 1] + 2 if at + 1 < end else 0
        if not 0 < length <= end - at:
            return False
        if kind in (_PAD1, _PADN):
            padding += length
            if padding > PADDING_BYTES_MAX or any(data[at + 2 : at + length]):
                return False
        else:
            padding, options = 0, options + 1
            if options > HOP_BY_HOP_OPTIONS_MAX or not _hop_by_hop_option_is_valid(data, at):
                return False
        at += length
    return True


def _hop_by_hop_option_is_valid(data: bytes, at: int) -> bool:
    """Verify an option. An unknown one is skipped only if its two highest bits are 0."""
    kind, length = data[at], data[at + 1]
    if kind == _ROUTER_ALERT:
        return length == 2
    if kind == _IOAM:
        return at % 4 == 0
    if kind == _JUMBO:
        return _jumbo_payload_is_valid(data, at)
    return kind >> 6 == 0 and kind != _CALIPSO


def _jumbo_payload_is_valid(data: bytes, at: int) -> bool:
    """Verify a jumbo payload option (RFC 2675): at offset 4n + 2, payload length 0, more than 65,535 bytes."""
    if data[at + 1] != 4 or at % 4 != 2 or data[4:6] != b"\0\0":
        return False
    return IPV6_PAYLOAD_BYTES_MAX < int.from_bytes(data[at + 2 : at + 6], "big") <= len(data) - HOP_BY_HOP_AT
