"""Security keys: Chromium with a virtual key through httpd, and assertions that must be refused."""

from __future__ import annotations

import json
import tomllib
from base64 import b64decode, urlsafe_b64decode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agents.box.sessions.security_keys import Assertion, SecurityKeyError, SecurityKeys, encoded
from tests.support.agents.page_client import PageClient, page_of
from tests.support.agents.served_page import NAME, served_page
from tests.support.agents.sessions.box import PORT, SessionBox, run
from tests.support.datacenter.web.browser import PROGRAM, axe_violations, open_browser
from tests.support.httpd import CAN_RUN, REASON, make_pki
from tests.support.wire.grants import OFFER, SESSION, STRANGER
from wire.session.grant import PresenceWay
from wire.session.presence import challenge_of
from wire.session.table import SessionState

ID = "mT3vVqGXkp0"
CHALLENGE = bytes(range(32))
USER_PRESENT, USER_VERIFIED = 1, 4


def der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


KEYS = SecurityKeys(NAME, {ID: der(SESSION)})


def assertion(
    challenge: bytes = CHALLENGE,
    *,
    key: ec.EllipticCurvePrivateKey = SESSION,
    name: str = NAME,
    flags: int = USER_PRESENT,
    **client_data: object,
) -> Assertion:
    """Return the assertion of a security key and a browser."""
    collected = {
        "type": "webauthn.get",
        "challenge": encoded(challenge),
        "origin": f"https://{NAME}:8443",
        "crossOrigin": False,
    }
    client = json.dumps(collected | client_data).encode()
    data = sha256(name.encode()).digest() + bytes([flags]) + bytes(4)
    signature = key.sign(data + sha256(client).digest(), ec.ECDSA(SHA256()))
    return Assertion(ID, encoded(client), encoded(data), encoded(signature))


def test_a_key_that_was_touched_for_the_challenge_is_accepted() -> None:
    assert KEYS.verify(assertion(), CHALLENGE) == f"key {ID}"
    assert KEYS.verify(assertion(flags=USER_PRESENT | USER_VERIFIED, origin=f"https://{NAME}"), CHALLENGE)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (replace(assertion(), id="other"), "not enrolled"),
        (assertion(bytes(32)), "another offer"),
        (assertion(type="webauthn.create"), "did not ask"),
        (assertion(origin="https://evil.example"), "another page"),
        (assertion(origin=f"http://{NAME}:8443"), "another page"),
        (assertion(origin=f"https://{NAME}.evil.example"), "another page"),
        (assertion(origin=7), "another page"),
        (assertion(crossOrigin=True), "within another"),
        (assertion(name="evil.example"), "another name"),
        (assertion(flags=0), "nobody has touched"),
        (assertion(flags=USER_VERIFIED), "nobody has touched"),
        (assertion(key=STRANGER), "signature is wrong"),
        (
            replace(assertion(), authenticator_data=assertion(flags=5).authenticator_data),
            "signature is wrong",
        ),
        (replace(assertion(), authenticator_data=""), "another name"),
        (replace(assertion(), client_data="ä"), "not base64url"),
        (replace(assertion(), client_data=encoded(b"[" * 2000)), "did not ask"),
        (replace(assertion(), client_data=encoded(b"[]")), "did not ask"),
        (replace(assertion(), signature=""), "signature is wrong"),
    ],
)
def test_every_other_assertion_is_refused(wrong: Assertion, message: str) -> None:
    with pytest.raises(SecurityKeyError, match=message):
        KEYS.verify(wrong, CHALLENGE)


def test_each_flipped_bit_of_an_assertion_is_refused() -> None:
    valid = assertion()
    for field in ("client_data", "authenticator_data", "signature"):
        data = urlsafe_b64decode(getattr(valid, field) + "===")
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(SecurityKeyError):
                KEYS.verify(replace(valid, **{field: encoded(bytes(flipped))}), CHALLENGE)


def test_a_key_of_another_curve_is_refused() -> None:
    with pytest.raises(ValueError, match="P-256"):
        SecurityKeys(NAME, {ID: der(ec.generate_private_key(ec.SECP384R1()))})


def test_a_key_permits_the_offer_whose_challenge_it_signed_and_no_other() -> None:
    async def act(box: SessionBox) -> None:
        client = PageClient(page_of(box, KEYS))
        await box.offer()
        first = challenge_of(box.session.signed.hash)
        await box.sessions.end(OFFER.id, PORT)
        second = box.next_offer(id=bytes(16))
        await box.offer(second)
        form = await client.offer_form("security-key", second.id)
        challenge = challenge_of(box.session.signed.hash)
        assert challenge != first
        for signed, note in ((assertion(first), "wrong"), (assertion(challenge), "")):
            values = {name: getattr(signed, name) for name in Assertion.__slots__}
            answer = await client.ask("POST", form.action, urlencode(form.fields | values).encode())
            assert answer.headers["location"].endswith(f"?note={note or 'permitted'}")
        assert box.audit.refusals == ["a security key: it was used for another offer"]
        assert [proof.observation for proof in box.grant().consent.evidence] == [f"key {ID}"]

    run(act, PresenceWay.SECURITY_KEY)


def test_the_challenge_does_not_reveal_the_code() -> None:
    """Otherwise anybody who sees the page could compute the code that staff must give by telephone."""

    async def act(box: SessionBox) -> None:
        client = PageClient(page_of(box, KEYS))
        code = await box.offer()
        text = await client.get(f"/offer/{OFFER.id.hex()}")
        assert encoded(challenge_of(box.session.signed.hash)) in text
        for secret in (box.session.signed.hash.hex(), encoded(box.session.signed.hash), code):
            assert secret not in text

    run(act, PresenceWay.CODE, PresenceWay.SECURITY_KEY)


def test_without_enrolled_keys_a_form_of_a_key_is_unknown() -> None:
    async def act(box: SessionBox) -> None:
        with_keys = PageClient(page_of(box, KEYS))
        await box.offer()
        form = await with_keys.offer_form("security-key")
        other = PageClient(page_of(box))
        assert (await other.ask("POST", form.action, urlencode(form.fields).encode())).status == 403
        form = await other.offer_form("security-key")
        assert (await other.ask("POST", form.action, urlencode(form.fields).encode())).status == 404
        assert box.session.state is SessionState.OFFERED

    run(act, PresenceWay.SECURITY_KEY)


@pytest.mark.skipif(PROGRAM is None, reason="needs chromium: make setup-datacenter")
@pytest.mark.skipif(not CAN_RUN, reason=REASON)
def test_a_person_enrols_a_key_in_chromium_and_permits_a_session_with_it(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    pki = make_pki(tmp_path_factory.mktemp("pki"))
    options = ("--ignore-certificate-errors", f"--host-resolver-rules=MAP {NAME} 127.0.0.1")
    with (
        served_page(tmp_path, pki, PresenceWay.CODE, PresenceWay.SECURITY_KEY) as served,
        open_browser(tmp_path_factory.mktemp("chromium"), *options) as browser,
    ):
        address = f"https://{NAME}:{served.http_ports[PORT]}"
        browser.add_security_key()
        browser.open(f"{address}/security-key")
        browser.evaluate("document.querySelector('.form-enrolment button').click()")
        browser.wait_for("document.querySelector('#entry').textContent")
        assert axe_violations(browser) == []
        (entry,) = tomllib.loads(browser.evaluate("document.querySelector('#entry').textContent"))[
            "sessions"
        ]["security_key"]
        served.enrol({entry["id"]: b64decode(entry["public_key"])})
        code = served.offer()
        path = f"/offer/{OFFER.id.hex()}"
        browser.open(address + path)
        assert axe_violations(browser) == []
        browser.evaluate(f"document.querySelector('#code').value = '{code}'")
        browser.evaluate("document.querySelector('.form-code button').click()")
        browser.wait_for(
            "document.readyState === 'complete' && document.body.textContent.includes('Another one is needed')"
        )
        browser.evaluate("document.querySelector('.form-security-key button').click()")
        served.reach(SessionState.OPEN)
        browser.wait_for("document.querySelector('.live')")
        evidence = [(proof.way, proof.observation) for proof in served.box.grant().consent.evidence]
        assert evidence == [
            (PresenceWay.CODE, f"port {PORT}"),
            (PresenceWay.SECURITY_KEY, f"key {entry['id'][:16]}"),
        ]
        assert browser.problems == []
