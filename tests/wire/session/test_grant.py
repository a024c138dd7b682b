from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

import cwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.paths import ROOT
from tests.support.wire.grants import (
    BOX,
    BOX_KEYS,
    DATACENTER,
    DATACENTER_KEYS,
    EVIDENCE,
    ISSUED,
    OFFER,
    SESSION,
    STRANGER,
    grant_of,
)
from wire.session.cbor import decode, encode
from wire.session.cose import BYTES_MAX, GrantError, countersign, key_id, sign
from wire.session.grant import (
    LIFETIME_SECONDS_MAX,
    Grant,
    PresenceEvidence,
    PresenceWay,
    SignedOffer,
    countersign_offer,
    read_grant,
    read_offer,
    sign_offer,
)

RECORDED = json.loads((ROOT / "tests/fixtures/session/grant.json").read_text())
"""An offer and its grant as the first version encoded them: later versions must read them."""
GRANT = bytes.fromhex(RECORDED["grant"])
SIGNED_OFFER = bytes.fromhex(RECORDED["offer"])


def read(message: bytes) -> Grant:
    return read_grant(message, DATACENTER_KEYS, BOX_KEYS)


def elements_of(message: bytes) -> Any:
    """Return the four elements of a COSE_Sign1 message: protected, unprotected, payload, signature."""
    return decode(message[1:])


def claims_of(offer: bytes) -> dict[Any, Any]:
    claims = decode(elements_of(offer)[2])
    assert isinstance(claims, dict)
    return claims


def test_a_grant_has_the_offer_and_the_consent() -> None:
    grant = read(grant_of(OFFER))
    assert grant.offer == OFFER
    assert grant.consent.evidence == EVIDENCE
    assert grant.consent.session_key == SESSION.public_key()
    assert grant.consent.offer_hash == sha256(decoded_offer(grant.message)).digest()


def decoded_offer(grant: bytes) -> bytes:
    protected, _, payload, signature = elements_of(grant)
    return b"\xd2" + encode([protected, {}, payload, signature])


def test_recorded_grants_are_read() -> None:
    assert read_offer(SIGNED_OFFER, DATACENTER_KEYS, "RAP-0001").offer == OFFER
    grant = read(GRANT)
    assert (grant.offer, grant.consent.evidence) == (OFFER, EVIDENCE)
    assert decoded_offer(GRANT) == SIGNED_OFFER


def test_another_implementation_verifies_an_offer() -> None:
    public = DATACENTER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    key = cwt.COSEKey.from_pem(public, kid=key_id(DATACENTER.public_key()), alg="ES256")
    protected, _, payload = cwt.COSE.new(verify_kid=True).decode_with_headers(SIGNED_OFFER, key)
    assert protected == {1: -7, 4: key_id(DATACENTER.public_key())}
    assert payload == encode(claims_of(SIGNED_OFFER))


def test_an_offer_of_another_implementation_is_read() -> None:
    private = DATACENTER.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = cwt.COSEKey.from_pem(private, kid=key_id(DATACENTER.public_key()), alg="ES256")
    protected = {1: -7, 4: key_id(DATACENTER.public_key())}
    foreign = cwt.COSE.new().encode(encode(claims_of(SIGNED_OFFER)), key, protected, {})
    assert read_offer(foreign, DATACENTER_KEYS, "RAP-0001").offer == OFFER


def test_the_countersignature_is_that_of_rfc_9338() -> None:
    """The structure of section 3.3, assembled by hand: other_fields is an array with the signature."""
    protected, unprotected, payload, signature = elements_of(GRANT)
    own, empty, counter = unprotected[11]
    structure = b"\x86" + b"\x72CounterSignatureV2"
    structure += bytes([0x40 | len(protected)]) + protected
    structure += (
        b"\x58" + bytes([len(own)]) + own if len(own) < 256 else b"\x59" + len(own).to_bytes(2, "big") + own
    )
    structure += b"\x40"
    structure += (
        b"\x59" + len(payload).to_bytes(2, "big") + payload
        if len(payload) > 255
        else (b"\x58" + bytes([len(payload)]) + payload)
    )
    structure += b"\x81\x58\x40" + signature
    der = encode_dss_signature(int.from_bytes(counter[:32], "big"), int.from_bytes(counter[32:], "big"))
    BOX.public_key().verify(der, structure, ECDSA(SHA256()))
    assert empty == {}


def test_every_changed_bit_is_refused() -> None:
    for offset in range(len(GRANT)):
        for bit in range(8):
            changed = bytearray(GRANT)
            changed[offset] ^= 1 << bit
            with pytest.raises(GrantError):
                read(bytes(changed))


@settings(max_examples=500)
@given(st.integers(0, len(GRANT)), st.integers(0, len(GRANT)), st.binary(max_size=6))
def test_replaced_bytes_are_refused(start: int, length: int, by: bytes) -> None:
    changed = GRANT[:start] + by + GRANT[start + length :]
    if changed != GRANT:
        with pytest.raises(GrantError):
            read(changed)


@given(st.binary(max_size=64).map(lambda data: b"\xd2\x84" + data) | st.binary(max_size=64))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(GrantError):
        read(data)


def test_parts_of_two_grants_do_not_make_one() -> None:
    other = grant_of(replace(OFFER, id=b"x" * 16))
    elements, others = elements_of(GRANT), elements_of(other)
    for index in range(4):
        mixed = [*elements[:index], others[index], *elements[index + 1 :]]
        if mixed != elements:
            with pytest.raises(GrantError):
                read(b"\xd2" + encode(mixed))


def test_evidence_for_another_offer_is_refused() -> None:
    """The box's own signature does not help if the consent names another offer's hash."""
    signed = read_offer(SIGNED_OFFER, DATACENTER_KEYS, "RAP-0001")
    other = read_offer(sign_offer(replace(OFFER, id=b"x" * 16), DATACENTER), DATACENTER_KEYS, "RAP-0001")

    class Confused(SignedOffer):
        hash = other.hash

    confused = Confused(signed.offer, signed.message)
    with pytest.raises(GrantError, match="the consent belongs to another offer"):
        read(countersign_offer(confused, EVIDENCE, SESSION.public_key(), BOX))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "is not a COSE_Sign1 message: it must begin with tag 18"),
        (GRANT[1:], "must begin with tag 18"),
        (GRANT + b"\x00", "is not deterministic CBOR: 1 bytes follow the value"),
        (GRANT + bytes(BYTES_MAX), f"at most {BYTES_MAX} are accepted"),
        (b"\xd2\x80", "COSE_Sign1 must be an array of 4 elements"),
        (b"\xd2\x84\x40\xa0\x40\x01", "must be byte strings"),
        (SIGNED_OFFER, "must have a countersignature"),
    ],
)
def test_a_message_that_is_not_a_grant_is_refused_with_the_reason(message: bytes, reason: str) -> None:
    with pytest.raises(GrantError) as caught:
        read(message)
    assert reason in str(caught.value)


def resigned(headers: dict[Any, Any], unprotected: dict[Any, Any] | None = None) -> bytes:
    """Return an offer with other headers, correctly signed by the data center."""
    _, _, payload, _ = elements_of(SIGNED_OFFER)
    protected = encode(headers)
    der = DATACENTER.sign(encode(["Signature1", protected, b"", payload]), ECDSA(SHA256()))
    r, s = decode_dss_signature(der)
    return b"\xd2" + encode(
        [protected, unprotected or {}, payload, r.to_bytes(32, "big") + s.to_bytes(32, "big")]
    )


KID = key_id(DATACENTER.public_key())


@pytest.mark.parametrize(
    ("headers", "unprotected", "reason"),
    [
        ({1: -7, 2: [99], 4: KID, 99: 1}, {}, "has critical headers, which are not known: [99]"),
        ({1: -35, 4: KID}, {}, "is signed with algorithm -35; it must be ES256 (-7)"),
        ({4: KID}, {}, "is signed with algorithm None; it must be ES256 (-7)"),
        ({1: -7, 4: KID, 33: b""}, {}, "has unknown protected headers: ['33']"),
        ({1: -7}, {}, "is signed with the key None, which is not trusted"),
        ({1: -7, 4: b"stranger"}, {}, f"is signed with the key {b'stranger'.hex()}, which is not trusted"),
        ({1: -7, 4: KID}, {4: KID}, "has unprotected headers; an offer has none"),
    ],
)
def test_other_headers_are_refused(headers: dict[Any, Any], unprotected: dict[Any, Any], reason: str) -> None:
    with pytest.raises(GrantError) as caught:
        read_offer(resigned(headers, unprotected), DATACENTER_KEYS, "RAP-0001")
    assert reason in str(caught.value)


def test_signatures_of_untrusted_keys_are_refused() -> None:
    with pytest.raises(GrantError, match="which is not trusted"):
        read_offer(sign_offer(OFFER, STRANGER), DATACENTER_KEYS, "RAP-0001")
    signed = read_offer(SIGNED_OFFER, DATACENTER_KEYS, "RAP-0001")
    with pytest.raises(GrantError, match="which is not trusted"):
        read(countersign_offer(signed, EVIDENCE, SESSION.public_key(), STRANGER))
    with pytest.raises(GrantError, match="which is not trusted"):  # the data center cannot consent either
        read(countersign_offer(signed, EVIDENCE, SESSION.public_key(), DATACENTER))


def test_a_key_of_another_curve_signs_nothing() -> None:
    with pytest.raises(GrantError, match="must be of curve P-256"):
        sign_offer(OFFER, generate_private_key(SECP384R1()))


def test_an_offer_for_another_box_is_refused() -> None:
    with pytest.raises(GrantError, match="is for the box RAP-0001, and this is RAP-0002"):
        read_offer(SIGNED_OFFER, DATACENTER_KEYS, "RAP-0002")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": b"short"}, "the session's id (cti) must be a byte string of 16 bytes"),
        ({"staff": ""}, "the staff member (sub) must be a text of 1 to 64 printable characters"),
        ({"staff": "x" * 65}, "the staff member (sub) must be a text of 1 to 64 printable characters"),
        ({"staff": "m\u202ecurie"}, "the staff member (sub) must be a text of 1 to 64 printable characters"),
        ({"role": "a\nb"}, "the role must be a text of 1 to 64 printable characters"),
        ({"port": 0}, "the instrument port must be an integer from 1 to 255"),
        ({"tcp_port": 65536}, "the TCP port must be an integer from 1 to 65535"),
        ({"mode": "own"}, "the mode must be one of view, control"),
        ({"service": "ssh"}, "the service must be one of rfb, tcp"),
        ({"expires": ISSUED}, f"is valid for 0 s; an offer is valid for 1 to {LIFETIME_SECONDS_MAX} s"),
        ({"expires": ISSUED + LIFETIME_SECONDS_MAX + 1}, "an offer is valid for 1 to"),
    ],
)
def test_invalid_values_are_not_signed(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(GrantError) as caught:
        sign_offer(replace(OFFER, **changes), DATACENTER)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("claim", "value", "reason"),
    [
        (7, b"short", "the session's id (cti) must be"),
        (8, {1: {1: 2, -1: 1, -2: bytes(32), -3: bytes(32)}}, "is not a point of curve P-256"),
        (8, {1: {1: 1, -1: 6, -2: bytes(32), -3: bytes(32)}}, "a public key must be of curve P-256"),
        (8, {3: b""}, "the claim cnf: missing [1], unknown [3]"),
        (5, ISSUED, "the claims of an offer: missing [], unknown [5]"),
        (-65542, "own", "the mode must be one of view, control"),
        (4, "soon", "the expiry (exp) must be an integer"),
    ],
)
def test_invalid_claims_are_refused_although_signed(claim: int, value: object, reason: str) -> None:
    claims = {**claims_of(SIGNED_OFFER), claim: value}
    with pytest.raises(GrantError) as caught:
        read_offer(sign(encode(claims), DATACENTER), DATACENTER_KEYS, "RAP-0001")
    assert reason in str(caught.value)


@pytest.mark.parametrize("evidence", [(), EVIDENCE * 3, (PresenceEvidence(PresenceWay.CODE, "", 0),)])
def test_a_consent_without_evidence_is_not_signed(evidence: tuple[PresenceEvidence, ...]) -> None:
    with pytest.raises(GrantError):
        grant_of(OFFER, evidence)


def test_a_grant_is_countersigned_once() -> None:
    with pytest.raises(GrantError, match="is already countersigned"):
        countersign(GRANT, {}, BOX)


S = 1_000_000_000


@pytest.mark.parametrize(
    ("wall", "deadline"),
    [
        (ISSUED, 1800),
        (ISSUED + 600, 1200),
        (ISSUED + 1800, 0),
        (ISSUED + 86_400, 1800 - 86_400),  # a day ahead: refused as expired
        (ISSUED - 86_400, 1800),  # a day behind: no longer than its lifetime
    ],
)
def test_the_deadline_is_on_the_monotonic_clock(wall: int, deadline: int) -> None:
    assert OFFER.deadline_ns(wall * S, 77 * S) == (77 + deadline) * S


def test_a_grant_is_short() -> None:
    assert len(GRANT) < 700
