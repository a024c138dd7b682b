"""Certificate requests (PKCS #10): made by a device for its own key, and checked before a certificate is issued."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from wire.pki.hierarchy import RSA_BITS, PrivateKey, PublicKey
from wire.tls.certificates import CERTIFICATE_ERRORS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

CURVES: Final = ec.SECP256R1 | ec.SECP384R1


class RequestError(ValueError):
    """The request cannot be used; the message says how to correct it, and begins with a verb."""


def make_request(serial: str, key: PrivateKey) -> x509.CertificateSigningRequest:
    """Make the request of the device with this serial number, signed with its key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, serial)])
    alternative = x509.SubjectAlternativeName([x509.DNSName(serial.lower())])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.add_extension(alternative, critical=False).sign(key, hashes.SHA256())


def requested_key(request: x509.CertificateSigningRequest, name: str) -> PublicKey:
    """Return the key of a request, which must be for this name and signed with that key.

    Only the key and the name of a request have an effect. Raises: RequestError.
    """
    try:
        is_signed = request.is_signature_valid
        key = request.public_key()
        names = [
            str(attribute.value) for attribute in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        ]
    except CERTIFICATE_ERRORS as error:
        raise RequestError(f"is not a usable certificate request: {error}") from None
    if not is_signed:
        raise RequestError("is not signed with its own key, so it was changed; request it again")
    if names != [name]:
        raise RequestError(f"is for {', '.join(names) or 'no name'}, not {name}; give the right name")
    match key:
        case rsa.RSAPublicKey() if key.key_size >= RSA_BITS:
            return key
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, CURVES):
            return key
    raise RequestError(f"has a key that must be RSA of {RSA_BITS} bits or more, or on P-256 or P-384")


def key_hash(public_key: CertificatePublicKeyTypes) -> str:
    """Return the SHA-256 of a public key (SubjectPublicKeyInfo, DER) in hexadecimal, by which staff compare keys."""
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(public_key.public_bytes(*form)).hexdigest()
