"""Algorithms of certificates and keys: that of the signature, the kind of key, its length or curve."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_public_key,
)

from trust.algorithms.finding import Finding

RSA_BITS_MIN: Final = 2048
CURVES: Final = frozenset({"secp256r1", "secp384r1", "secp521r1"})
SIGNATURE_HASHES: Final = frozenset(
    {"sha224", "sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512"}
)
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_SSH: Final = re.compile(rb"^(?:ssh-|ecdsa-|sk-)\S+ AAAA\S+", re.MULTILINE)


def has_keys(data: bytes) -> bool:
    """Return whether a file has certificates or keys as text."""
    return b"-----BEGIN " in data or _SSH.search(data) is not None


def scan_keys(file: str, data: bytes) -> Iterator[Finding]:
    """Yield what is not approved of the certificates and keys in a file."""
    for block in _BLOCK.finditer(data):
        line = data.count(b"\n", 0, block.start()) + 1
        for problem in _block_problems(block[1].decode(), block[0] + b"\n"):
            yield Finding(file, line, "key or certificate", problem)
    for found in _SSH.finditer(data):
        line = data.count(b"\n", 0, found.start()) + 1
        try:
            problem = _key_problem(load_ssh_public_key(found[0]))
        except (ValueError, UnsupportedAlgorithm) as error:
            problem = f"cannot be read: {error}"
        if problem:
            yield Finding(file, line, "key or certificate", problem)


def _block_problems(kind: str, pem: bytes) -> Iterator[str]:
    try:
        match kind:
            case "CERTIFICATE":
                yield from _certificate_problems(x509.load_pem_x509_certificate(pem))
            case "PUBLIC KEY":
                yield from filter(None, [_key_problem(load_pem_public_key(pem))])
            case "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" | "DSA PRIVATE KEY":
                yield from filter(None, [_key_problem(load_pem_private_key(pem, None).public_key())])
            case "OPENSSH PRIVATE KEY":
                yield "is in OpenSSH's own format, whose encryption (bcrypt) is not approved"
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        yield f"cannot be read: {error}"


def _certificate_problems(certificate: x509.Certificate) -> Iterator[str]:
    try:
        used = certificate.signature_hash_algorithm
        if used is None:
            yield f"is signed by {certificate.signature_algorithm_oid.dotted_string} without a hash, as by EdDSA"
        elif used.name not in SIGNATURE_HASHES:
            yield f"is signed with {used.name}"
    except UnsupportedAlgorithm:
        yield f"is signed by the unknown algorithm {certificate.signature_algorithm_oid.dotted_string}"
    if problem := _key_problem(certificate.public_key()):
        yield problem


def _key_problem(key: object) -> str:
    """Return what is not approved of a public key; nothing if it is approved."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA key of {key.key_size} bits" if key.key_size < RSA_BITS_MIN else ""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "" if key.curve.name in CURVES else f"key on the curve {key.curve.name}"
    return f"key of the kind {type(key).__name__.removesuffix('PublicKey').lstrip('_')}"
