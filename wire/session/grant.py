"""Offers and grants of sessions, as CBOR Web Tokens (RFC 8392) that are signed by both ends.

The data center signs the offer: the staff member, the access, the instrument and the deadline. The box countersigns
it with the person's consent: how and when the presence was proved, the hash of the offer, and the public key that the
box has created for this session. Both together are the grant. Neither end can create one by itself, and a third party
verifies it with the public keys of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)

from wire.session.cbor import Cbor, CborError, decode, encode
from wire.session.cose import GrantError, Headers, Keys, countersign, sign, verify

ID_BYTES: Final = 16
LIFETIME_SECONDS_MAX: Final = 4 * 3600
TEXT_CHARACTERS_MAX: Final = 64
EVIDENCE_MAX: Final = 4
_SECOND_NS: Final = 1_000_000_000
_TIME_MAX: Final = 2**40

# registered claims (RFC 8392, RFC 8747), and private ones (below -65536)
_ISS, _SUB, _AUD, _EXP, _IAT, _CTI, _CNF = 1, 2, 3, 4, 6, 7, 8
_ROLE, _INSTRUMENT, _PORT, _SERVICE, _TCP_PORT, _MODE = -65537, -65538, -65539, -65540, -65541, -65542
_CONSENT: Final = -65543
"""The protected header of the countersignature that has the consent."""
_HASH, _EVIDENCE, _KEY = 1, 2, 3
_COSE_KEY: Final = 1
_KTY, _CRV, _X, _Y = 1, -1, -2, -3


class SessionMode(StrEnum):
    """The access of staff to the desktop."""

    VIEW = "view"
    CONTROL = "control"


class SessionService(StrEnum):
    """The protocol of the instrument's TCP port."""

    RFB = "rfb"
    TCP = "tcp"


class PresenceWay(StrEnum):
    """A way of proving that a person is at the instrument."""

    CODE = "code"
    """The six digits that staff gave by telephone were entered on the page."""
    SWITCH = "switch"
    """The switch of the box was pressed."""
    SECURITY_KEY = "security key"
    """A security key (FIDO2) signed the challenge of the offer (`wire.session.presence`)."""


@dataclass(frozen=True)
class Offer:
    """The request of staff. `sign_offer` and `read_offer` check it; the constructor does not."""

    id: bytes
    """The session's random identifier, 16 bytes (`cti`)."""
    issuer: str
    """The data center (`iss`)."""
    staff: str
    """The staff member (`sub`)."""
    role: str
    box: str
    """The serial number of the box (`aud`)."""
    instrument: str
    """The serial number of the instrument."""
    port: int
    """The instrument port of the box."""
    service: SessionService
    tcp_port: int
    mode: SessionMode
    issued: int
    """Seconds since 1970 (`iat`)."""
    expires: int
    """Seconds since 1970 (`exp`)."""
    endpoint_key: EllipticCurvePublicKey
    """The key of the data center's tunnel endpoint for this session (`cnf`)."""

    def deadline_ns(self, wall_ns: int, monotonic_ns: int) -> int:
        """Return when the session ends at the latest, on the monotonic clock.

        To be computed once, when the offer arrives: setting the wall clock later changes nothing. Even a wrong
        clock cannot extend a session beyond the offer's lifetime.
        """
        remaining_ns = self.expires * _SECOND_NS - wall_ns
        return monotonic_ns + min(remaining_ns, (self.expires - self.issued) * _SECOND_NS)


@dataclass(frozen=True)
class PresenceEvidence:
    """One way in which the person has proved the presence."""

    way: PresenceWay
    observation: str
    """The observation, such as the port of the page or the number of the switch; never a name or the code."""
    at: int
    """Seconds since 1970, by the clock of the box."""


@dataclass(frozen=True)
class Consent:
    """The statement that the box signs: a person has permitted exactly this offer."""

    offer_hash: bytes
    evidence: tuple[PresenceEvidence, ...]
    session_key: EllipticCurvePublicKey
    """The key that the box has made for this session, for which the certificate is issued."""


@dataclass(frozen=True)
class SignedOffer:
    """A verified offer, and its bytes."""

    offer: Offer
    message: bytes

    @property
    def hash(self) -> bytes:
        """SHA-256 of the message, to which the person's evidence belongs."""
        return sha256(self.message).digest()


@dataclass(frozen=True)
class Grant:
    """A verified grant, and its bytes."""

    offer: Offer
    consent: Consent
    message: bytes


def sign_offer(offer: Offer, key: EllipticCurvePrivateKey) -> bytes:
    """Return the signed offer. Raises: GrantError if a value is not permitted."""
    payload = encode(
        {
            _ISS: offer.issuer,
            _SUB: offer.staff,
            _AUD: offer.box,
            _EXP: offer.expires,
            _IAT: offer.issued,
            _CTI: offer.id,
            _CNF: {_COSE_KEY: _cose_key(offer.endpoint_key)},
            _ROLE: offer.role,
            _INSTRUMENT: offer.instrument,
            _PORT: offer.port,
            _SERVICE: str(offer.service),
            _TCP_PORT: offer.tcp_port,
            _MODE: str(offer.mode),
        }
    )
    _offer(payload)
    return sign(payload, key)


def read_offer(message: bytes, datacenter: Keys, box: str | None = None) -> SignedOffer:
    """Verify an offer, for the box with this serial number if it is given. Raises: GrantError."""
    signed = verify(message, datacenter)
    offer = _offer(signed.payload)
    if box not in (None, offer.box):
        raise GrantError(f"is for the box {offer.box}, and this is {box}")
    return SignedOffer(offer, signed.message)


def countersign_offer(
    signed: SignedOffer,
    evidence: tuple[PresenceEvidence, ...],
    session_key: EllipticCurvePublicKey,
    key: EllipticCurvePrivateKey,
) -> bytes:
    """Return the grant: the offer, countersigned by the box. Raises: GrantError if a value is not permitted."""
    header: Cbor = {
        _HASH: signed.hash,
        _EVIDENCE: [[str(each.way), each.observation, each.at] for each in evidence],
        _KEY: _cose_key(session_key),
    }
    _consent({_CONSENT: header})
    return countersign(signed.message, {_CONSENT: header}, key)


def read_grant(message: bytes, datacenter: Keys, box: Keys) -> Grant:
    """Verify a grant with the keys of both ends. Raises: GrantError."""
    signed = verify(message, datacenter, box)
    assert signed.countersigned is not None
    offer, consent = _offer(signed.payload), _consent(signed.countersigned)
    if consent.offer_hash != sha256(signed.message).digest():
        raise GrantError("the consent belongs to another offer")
    return Grant(offer, consent, message)


# reading of untrusted values


def _offer(payload: bytes) -> Offer:
    try:
        claims = decode(payload)
    except CborError as error:
        raise GrantError(f"the claims are not deterministic CBOR: {error}") from None
    known = {_ISS, _SUB, _AUD, _EXP, _IAT, _CTI, _CNF, _ROLE, _INSTRUMENT, _PORT, _SERVICE, _TCP_PORT, _MODE}
    fields = _map(claims, known, "the claims of an offer")
    confirmation = _map(fields[_CNF], {_COSE_KEY}, "the claim cnf")
    offer = Offer(
        id=_bytes(fields[_CTI], ID_BYTES, "the session's id (cti)"),
        issuer=_text(fields[_ISS], "the issuer"),
        staff=_text(fields[_SUB], "the staff member (sub)"),
        role=_text(fields[_ROLE], "the role"),
        box=_text(fields[_AUD], "the box (aud)"),
        instrument=_text(fields[_INSTRUMENT], "the instrument"),
        port=_number(fields[_PORT], 1, 255, "the instrument port"),
        service=_word(fields[_SERVICE], SessionService, "the service"),
        tcp_port=_number(fields[_TCP_PORT], 1, 65535, "the TCP port"),
        mode=_word(fields[_MODE], SessionMode, "the mode"),
        issued=_number(fields[_IAT], 0, _TIME_MAX, "the time of issue (iat)"),
        expires=_number(fields[_EXP], 0, _TIME_MAX, "the expiry (exp)"),
        endpoint_key=_public_key(confirmation[_COSE_KEY]),
    )
    if not 0 < offer.expires - offer.issued <= LIFETIME_SECONDS_MAX:
        raise GrantError(
            f"is valid for {offer.expires - offer.issued} s; an offer is valid for 1 to {LIFETIME_SECONDS_MAX} s"
        )
    return offer


def _consent(headers: Headers) -> Consent:
    header = _map(
        _map(headers, {_CONSENT}, "the box's headers")[_CONSENT], {_HASH, _EVIDENCE, _KEY}, "the consent"
    )
    listed = header[_EVIDENCE]
    if not isinstance(listed, list) or not 0 < len(listed) <= EVIDENCE_MAX:
        raise GrantError(f"the consent must have 1 to {EVIDENCE_MAX} pieces of evidence")
    evidence = tuple(map(_evidence, listed))
    return Consent(_bytes(header[_HASH], 32, "the offer's hash"), evidence, _public_key(header[_KEY]))


def _evidence(value: Cbor) -> PresenceEvidence:
    if not isinstance(value, list) or len(value) != 3:
        raise GrantError("evidence must be [way, observation, time]")
    way, observation, at = value
    return PresenceEvidence(
        _word(way, PresenceWay, "the way of evidence"),
        _text(observation, "the evidence"),
        _number(at, 0, _TIME_MAX, "the time of evidence"),
    )


def _cose_key(key: EllipticCurvePublicKey) -> dict[int | str, Cbor]:
    numbers = key.public_numbers()
    return {_KTY: 2, _CRV: 1, _X: numbers.x.to_bytes(32, "big"), _Y: numbers.y.to_bytes(32, "big")}


def _public_key(value: Cbor) -> EllipticCurvePublicKey:
    fields = _map(value, {_KTY, _CRV, _X, _Y}, "a public key")
    if fields[_KTY] != 2 or fields[_CRV] != 1:
        raise GrantError("a public key must be of curve P-256")
    x, y = (int.from_bytes(_bytes(fields[name], 32, "a coordinate"), "big") for name in (_X, _Y))
    try:
        return EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
    except ValueError:
        raise GrantError("a public key is not a point of curve P-256") from None


def _map(value: Cbor, keys: set[int], name: str) -> Mapping[Any, Cbor]:
    if not isinstance(value, dict):
        raise GrantError(f"{name} must be a map")
    if value.keys() != keys:
        missing, unknown = sorted(keys - value.keys()), sorted(value.keys() - keys, key=str)
        raise GrantError(f"{name}: missing {missing}, unknown {unknown}")
    return value


def _bytes(value: Cbor, length: int, name: str) -> bytes:
    if not isinstance(value, bytes) or len(value) != length:
        raise GrantError(f"{name} must be a byte string of {length} bytes")
    return value


def _text(value: Cbor, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_CHARACTERS_MAX or not value.isprintable():
        raise GrantError(f"{name} must be a text of 1 to {TEXT_CHARACTERS_MAX} printable characters")
    return value


def _number(value: Cbor, least: int, most: int, name: str) -> int:
    if not isinstance(value, int) or not least <= value <= most:
        raise GrantError(f"{name} must be an integer from {least} to {most}")
    return value


W = TypeVar("W", bound=StrEnum)


def _word(value: Cbor, words: type[W], name: str) -> W:
    for word in words:
        if word == value:
            return word
    raise GrantError(f"{name} must be one of {', '.join(words)}")
