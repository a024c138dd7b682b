"""Algorithms of certificates and keys: the signature algorithm, the kind of key, its length or curve."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_public_key,
)

from trust.algorithms.finding import AlgorithmFinding

RSA_BITS_MIN: Final = 2048
CURVES: Final = frozenset({"secp256r1", "secp384r1", "secp521r1"})
SIGNATURE_HASHES: Final = frozenset(
    {"sha224", "sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512"}
)
DH_BITS_MIN: Final = 2048
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_SSH: Final = re.compile(rb"^(?:ssh-|ecdsa-|sk-)\S+ AAAA\S+", re.MULTILINE)
_LEGACY: Final = b"Proc-Type: 4,ENCRYPTED"
_ENCRYPTIONS: Final = {
    "2a864886f70d010503": "MD5 and DES (PBES1)",
    "2a864886f70d01050a": "SHA-1 and DES (PBES1)",
    "2a864886f70d010c01": "PKCS #12's key derivation",
    "2a864886f70d0307": "3DES",
    "2b06010401da47040b": "scrypt",
}
"""Object identifiers in the header of an encrypted key (DER in hexadecimal); of PKCS #12's, the common beginning."""


def has_keys(data: bytes) -> bool:
    """Return whether a file has certificates or keys as text."""
    return b"-----BEGIN " in data or _SSH.search(data) is not None


def scan_keys(file: str, data: bytes) -> Iterator[AlgorithmFinding]:
    """Yield the findings about certificates and keys in a file."""
    for block in _BLOCK.finditer(data):
        line = data.count(b"\n", 0, block.start()) + 1
        for problem in _block_problems(block[1].decode(), block[0] + b"\n"):
            yield AlgorithmFinding(file, line, "key or certificate", problem)
    for key in _SSH.finditer(data):
        line = data.count(b"\n", 0, key.start()) + 1
        try:
            problem = _key_problem(load_ssh_public_key(key[0]))
        except (ValueError, UnsupportedAlgorithm) as error:
            problem = f"cannot be read: {error}"
        if problem:
            yield AlgorithmFinding(file, line, "key or certificate", problem)


def scan_binary(file: str, data: bytes) -> Iterator[AlgorithmFinding]:
    """Yield the findings about a certificate in binary form (DER)."""
    try:
        problems = list(_certificate_problems(x509.load_der_x509_certificate(data)))
    except (ValueError, UnsupportedAlgorithm) as error:
        problems = [f"cannot be read: {error}"]
    yield from (AlgorithmFinding(file, 0, "key or certificate", problem) for problem in problems)


def _block_problems(kind: str, pem: bytes) -> Iterator[str]:
    if _LEGACY in pem:
        yield "is encrypted in OpenSSL's old format, whose key derivation is MD5"
        return
    try:
        match kind:
            case "CERTIFICATE":
                yield from _certificate_problems(x509.load_pem_x509_certificate(pem))
            case "PUBLIC KEY":
                yield from filter(None, [_key_problem(load_pem_public_key(pem))])
            case "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" | "DSA PRIVATE KEY":
                yield from filter(None, [_key_problem(load_pem_private_key(pem, None).public_key())])
            case "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST":
                request = x509.load_pem_x509_csr(pem)
                yield from _signature_problems(request)
                yield from filter(None, [_key_problem(request.public_key())])
            case "X509 CRL":
                yield from _signature_problems(x509.load_pem_x509_crl(pem))
            case "DH PARAMETERS" | "X9.42 DH PARAMETERS":
                bits = _first_integer_bits(_der(pem))
                yield from [f"Diffie-Hellman group of {bits} bits"] if bits < DH_BITS_MIN else []
            case "ENCRYPTED PRIVATE KEY":
                head = _der(pem)[:256].hex()
                yield from (f"is encrypted with {name}" for oid, name in _ENCRYPTIONS.items() if oid in head)
            case "OPENSSH PRIVATE KEY":
                yield "is in OpenSSH's own format, whose encryption (bcrypt) is not approved"
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        yield f"cannot be read: {error}"


def _der(pem: bytes) -> bytes:
    return b64decode(b"".join(pem.splitlines()[1:-1]))


def _first_integer_bits(der: bytes) -> int:
    """Return the size of the first integer of a sequence (X.690), such as the prime of a group.

    Raises: ValueError.
    """
    kind, content = _element(der)
    first, number = _element(content)
    if (kind, first) != (0x30, 0x02):
        raise ValueError("is not a sequence that begins with an integer")
    return int.from_bytes(number, "big").bit_length()


def _element(der: bytes) -> tuple[int, bytes]:
    """Return the tag and the content of the first element. Raises: ValueError."""
    if len(der) < 2:
        raise ValueError("ends too early")
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    return der[0], der[start : start + length]


_Signed: TypeAlias = x509.Certificate | x509.CertificateSigningRequest | x509.CertificateRevocationList


def _signature_problems(signed: _Signed) -> Iterator[str]:
    try:
        algorithm = signed.signature_hash_algorithm
        if algorithm is None:
            yield f"is signed by {signed.signature_algorithm_oid.dotted_string} without a hash, as in EdDSA"
        elif algorithm.name not in SIGNATURE_HASHES:
            yield f"is signed with {algorithm.name}"
    except UnsupportedAlgorithm:
        yield f"is signed by the unknown algorithm {signed.signature_algorithm_oid.dotted_string}"


def _certificate_problems(certificate: x509.Certificate) -> Iterator[str]:
    yield from _signature_problems(certificate)
    if problem := _key_problem(certificate.public_key()):
        yield problem


def _key_problem(key: object) -> str:
    """Return why a public key is not approved; empty if it is approved."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA key of {key.key_size} bits" if key.key_size < RSA_BITS_MIN else ""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "" if key.curve.name in CURVES else f"key on the curve {key.curve.name}"
    return f"key of the kind {type(key).__name__.removesuffix('PublicKey').lstrip('_')}"
