"""Deterministic CBOR (RFC 8949, section 4.2.1) of the types in grants: integers, bytes, text, arrays, maps.

Each value has exactly one encoding, and the decoder accepts no other: no indefinite lengths, no heads longer than
necessary, no duplicate or unordered keys, no bytes after the value. Tags, floats and simple values are refused.
"""

from __future__ import annotations

from typing import Final, TypeAlias

Cbor: TypeAlias = int | bytes | str | list["Cbor"] | dict[int | str, "Cbor"]
DEPTH_MAX: Final = 8
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP = range(6)
_INT_MAX: Final = 2**64 - 1


class CborError(ValueError):
    """The bytes are not the deterministic encoding of a permitted value; the message says why."""


def encode(value: Cbor) -> bytes:
    """Return the encoding of a value. Raises: CborError if it has none."""
    if isinstance(value, bool) or not isinstance(value, (int, bytes, str, list, dict)):
        raise CborError(f"a {type(value).__name__} cannot be encoded; use int, bytes, str, list or dict")
    if isinstance(value, int):
        major, argument = (_UNSIGNED, value) if value >= 0 else (_NEGATIVE, -1 - value)
        return _head(major, argument)
    if isinstance(value, bytes):
        return _head(_BYTES, len(value)) + value
    if isinstance(value, str):
        text = value.encode("utf-8")
        return _head(_TEXT, len(text)) + text
    if isinstance(value, list):
        return _head(_ARRAY, len(value)) + b"".join(map(encode, value))
    pairs = sorted((encode(key), encode(each)) for key, each in value.items())
    return _head(_MAP, len(value)) + b"".join(key + each for key, each in pairs)


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * size:
            return bytes([major << 5 | code]) + argument.to_bytes(size, "big")
    raise CborError(f"{argument} has more than 64 bits")


def decode(data: bytes) -> Cbor:
    """Return the value that is encoded. Raises: CborError."""
    value, end = _decode(data, 0, DEPTH_MAX)
    if end != len(data):
        raise CborError(f"{len(data) - end} bytes follow the value")
    return value


def _decode(data: bytes, at: int, depth: int) -> tuple[Cbor, int]:
    major, argument, at = _decode_head(data, at)
    if major == _UNSIGNED:
        return argument, at
    if major == _NEGATIVE:
        return -1 - argument, at
    if argument > len(data) - at:
        raise CborError(
            f"byte {at}: {argument} bytes or values are announced, and {len(data) - at} bytes are left"
        )
    if major in (_BYTES, _TEXT):
        content = data[at : at + argument]
        return content if major == _BYTES else _text(content, at), at + argument
    if not depth:
        raise CborError(f"byte {at}: more than {DEPTH_MAX} nested arrays and maps")
    if major == _ARRAY:
        values: list[Cbor] = []
        for _ in range(argument):
            value, at = _decode(data, at, depth - 1)
            values.append(value)
        return values, at
    return _decode_map(data, at, argument, depth - 1)


def _decode_head(data: bytes, at: int) -> tuple[int, int, int]:
    """Return major type, argument and the position after both."""
    if at >= len(data):
        raise CborError(f"byte {at}: the end is missing")
    major, code = data[at] >> 5, data[at] & 31
    if major > _MAP:
        raise CborError(f"byte {at}: tags, floats and simple values are not permitted")
    if code < 24:
        return major, code, at + 1
    if code > 27:
        raise CborError(f"byte {at}: indefinite and reserved lengths are not permitted")
    size = 1 << (code - 24)
    if at + 1 + size > len(data):
        raise CborError(f"byte {at}: the end is missing")
    argument = int.from_bytes(data[at + 1 : at + 1 + size], "big")
    if _head(major, argument) != data[at : at + 1 + size]:
        raise CborError(f"byte {at}: the number {argument} is not encoded in its shortest form")
    return major, argument, at + 1 + size


def _decode_map(data: bytes, at: int, count: int, depth: int) -> tuple[Cbor, int]:
    pairs: dict[int | str, Cbor] = {}
    last = b""
    for _ in range(count):
        start = at
        key, at = _decode(data, at, 0)
        if not isinstance(key, (int, str)):
            raise CborError(f"byte {start}: a key must be an integer or text")
        if data[start:at] <= last:
            raise CborError(f"byte {start}: the key {key!r} is a duplicate or out of order")
        last = data[start:at]
        pairs[key], at = _decode(data, at, depth)
    return pairs, at


def _text(content: bytes, at: int) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise CborError(f"byte {at}: the text is not UTF-8") from None
