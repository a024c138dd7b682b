"""Keys, offers and grants of sessions for tests."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
)

from wire.session.cose import key_set
from wire.session.grant import (
    Offer,
    PresenceEvidence,
    PresenceWay,
    SessionMode,
    SessionService,
    countersign_offer,
    read_offer,
    sign_offer,
)

ISSUED = 1_800_000_000


def private_key(number: int) -> EllipticCurvePrivateKey:
    """Return a key that is the same in each run."""
    return derive_private_key(number, SECP256R1())


DATACENTER, BOX, ENDPOINT, SESSION, STRANGER = map(private_key, (11, 12, 13, 14, 15))
DATACENTER_KEYS, BOX_KEYS = key_set(DATACENTER.public_key()), key_set(BOX.public_key())
OFFER = Offer(
    id=bytes(range(16)),
    issuer="dc.example",
    staff="m.curie",
    role="service",
    box="RAP-0001",
    instrument="CH-4711",
    port=2,
    service=SessionService.RFB,
    tcp_port=5900,
    mode=SessionMode.CONTROL,
    issued=ISSUED,
    expires=ISSUED + 1800,
    endpoint_key=ENDPOINT.public_key(),
)
EVIDENCE = (
    PresenceEvidence(PresenceWay.CODE, "page at port 2", ISSUED + 60),
    PresenceEvidence(PresenceWay.SWITCH, "switch 1", ISSUED + 65),
)


def grant_of(offer: Offer, evidence: tuple[PresenceEvidence, ...] = EVIDENCE) -> bytes:
    """Return the grant of an offer by the right keys."""
    return granted(sign_offer(offer, DATACENTER), evidence)


def granted(offer: bytes, evidence: tuple[PresenceEvidence, ...] = EVIDENCE) -> bytes:
    """Return the grant of a signed offer."""
    return countersign_offer(read_offer(offer, DATACENTER_KEYS), evidence, SESSION.public_key(), BOX)
