from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.session.cbor import Cbor, CborError, decode, encode

KEYS = st.integers(-(2**63), 2**63) | st.text("aé€\U0001f600", max_size=8)
VALUES = st.recursive(
    st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=300) | st.text("aé€\U0001f600", max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
).filter(lambda value: depth(value) <= 8)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(VALUES)
def test_another_library_decodes_each_encoded_value(value: Cbor) -> None:
    assert cbor2.loads(encode(value)) == value
    assert decode(encode(value)) == value


@given(st.binary(max_size=40))
def test_a_decoded_value_has_one_encoding(data: bytes) -> None:
    try:
        value = decode(data)
    except CborError:
        return
    assert encode(value) == data
    assert cbor2.loads(data) == value


@given(VALUES, st.data())
def test_a_changed_encoding_is_refused_or_another_value(value: Cbor, data: st.DataObject) -> None:
    encoded = bytearray(encode(value))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        changed = decode(bytes(encoded))
    except CborError:
        return
    assert changed != value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "byte 0: the end is missing"),
        ("0000", "1 bytes follow the value"),
        ("1800", "byte 0: the number 0 is not encoded in its shortest form"),
        ("190017", "byte 0: the number 23 is not encoded in its shortest form"),
        ("1a", "byte 0: the end is missing"),
        ("5f4100ff", "byte 0: indefinite and reserved lengths are not permitted"),
        ("1c", "byte 0: indefinite and reserved lengths are not permitted"),
        ("c000", "byte 0: tags, floats and simple values are not permitted"),
        ("f5", "byte 0: tags, floats and simple values are not permitted"),
        ("f90000", "byte 0: tags, floats and simple values are not permitted"),
        ("4200", "byte 1: 2 bytes or values are announced, and 1 bytes are left"),
        ("9bffffffffffffffff", "byte 9: 18446744073709551615 bytes or values are announced"),
        ("61ff", "byte 1: the text is not UTF-8"),
        ("a201000100", "byte 3: the key 1 is a duplicate or out of order"),
        ("a202000100", "byte 3: the key 1 is a duplicate or out of order"),
        ("a1410000", "byte 1: a key must be an integer or text"),
        ("a1800000", "byte 2: more than 8 nested arrays and maps"),
        ("81" * 9 + "00", "byte 9: more than 8 nested arrays and maps"),
    ],
)
def test_another_encoding_is_refused(data: str, reason: str) -> None:
    with pytest.raises(CborError) as caught:
        decode(bytes.fromhex(data))
    assert reason in str(caught.value)


@pytest.mark.parametrize("value", [None, True, 1.5, 2**64, -(2**64) - 1, [None]])
def test_other_types_are_not_encoded(value: Any) -> None:
    with pytest.raises(CborError):
        encode(value)
