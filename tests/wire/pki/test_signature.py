"""Signed text files."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from string import ascii_letters, digits

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from wire.pki.signature import SignatureError, load_public_key, new_key_pair, sign, verify

LETTERS = f"{ascii_letters}{digits}+/".encode()
TEXT = b'model = "test"\nversion = 1\n'


@pytest.fixture
def key(tmp_path: Path) -> Path:
    private, public = new_key_pair()
    (tmp_path / "signing.key").write_bytes(private)
    (tmp_path / "signing.pub").write_bytes(public)
    return tmp_path / "signing.key"


def public_of(key: Path) -> EllipticCurvePublicKey:
    return load_public_key(key.with_suffix(".pub"))


def test_a_signed_text_is_verified(key: Path) -> None:
    assert verify(sign(TEXT, key), public_of(key)) == TEXT


def test_a_new_signature_replaces_the_earlier_one(key: Path) -> None:
    signed = sign(TEXT, key)
    assert verify(sign(signed, key), public_of(key)) == TEXT
    assert sign(signed, key).count(b"signature") == 1


def test_any_changed_byte_is_detected(key: Path) -> None:
    signed = sign(TEXT, key)
    for offset in range(len(signed) - 1):
        changed = bytearray(signed)
        changed[offset] ^= 1
        with pytest.raises(SignatureError):
            verify(bytes(changed), public_of(key))


def test_another_spelling_of_the_signature_is_refused(key: Path) -> None:
    signed = sign(TEXT, key)
    while not signed.endswith(b"=\n"):  # only then the last letter has unused bits
        signed = sign(TEXT, key)
    body, encoded = signed.rstrip(b"\n").rsplit(b" ", 1)
    letters = encoded.rstrip(b"=")
    others = [letters[:-1] + bytes([letter]) for letter in LETTERS if letter != letters[-1]]
    padding = encoded[len(letters) :]
    equivalent = [other for other in others if b64decode(other + padding) == b64decode(encoded)]
    assert equivalent
    for other in equivalent:
        with pytest.raises(SignatureError):
            verify(body + b" " + other + padding + b"\n", public_of(key))


@pytest.mark.parametrize("added", [b"x = 1\n", b"\n", b"# signature: ecdsa-p256-sha256 AAAA\n"])
def test_text_after_the_signature_is_refused(key: Path, added: bytes) -> None:
    with pytest.raises(SignatureError):
        verify(sign(TEXT, key) + added, public_of(key))


def test_another_key_is_refused(key: Path, tmp_path: Path) -> None:
    (tmp_path / "other.pub").write_bytes(new_key_pair()[1])
    with pytest.raises(SignatureError, match="another key"):
        verify(sign(TEXT, key), load_public_key(tmp_path / "other.pub"))


def test_a_file_that_is_not_a_key_is_an_error_that_names_the_expected_key(key: Path) -> None:
    with pytest.raises(SignatureError, match="private key of curve P-256"):
        sign(TEXT, key.with_suffix(".pub"))
    with pytest.raises(SignatureError, match="public key of curve P-256"):
        load_public_key(key)
