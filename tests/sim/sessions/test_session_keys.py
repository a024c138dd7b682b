"""Keys of simulated sessions: signatures are deterministic, by RFC 6979."""

from __future__ import annotations

from random import Random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from sim.sessions.keys import RepeatableKey, drawn_keys
from wire.session.cose import key_set, sign, verify

# RFC 6979, A.2.5: P-256, SHA-256, the message "sample"
X = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
R = 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
S = 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8


def test_the_signature_equals_the_example_of_rfc_6979() -> None:
    key = RepeatableKey(ec.derive_private_key(X, ec.SECP256R1()))
    assert decode_dss_signature(key.sign(b"sample", ec.ECDSA(SHA256()))) == (R, S)


def test_signatures_of_a_message_are_equal_and_valid() -> None:
    key = RepeatableKey(drawn_keys(Random(1))())
    assert sign(b"offer", key) == sign(b"offer", key)
    assert verify(sign(b"offer", key), key_set(key.public_key())).payload == b"offer"
    with pytest.raises(InvalidSignature):
        key.public_key().verify(key.sign(b"one", ec.ECDSA(SHA256())), b"other", ec.ECDSA(SHA256()))


def test_each_draw_gives_a_new_key_and_the_seed_determines_the_keys() -> None:
    first, again, other = (drawn_keys(Random(seed)) for seed in (1, 1, 2))
    keys = [first().private_numbers() for _ in range(3)]
    assert keys == [again().private_numbers() for _ in range(3)]
    assert len({key.private_value for key in keys}) == 3
    assert other().private_numbers() not in keys
