"""Instruments get certificates through their box: at once, after an approval, or not at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography import x509

from datacenter.enrolment.box_lists import DeniedBoxes
from datacenter.enrolment.desk import EnrolmentRefusedError
from datacenter.enrolment.registration import Granted, PendingApproval, Rejected
from tests.support.datacenter.enrolling import BOX, CA, DAY_MS, Enrolling, store_with_a_box
from wire.pki.hierarchy import Authority, make_key
from wire.pki.request import RequestError, key_hash, make_request

INSTRUMENT, OTHER = "CHEM-0001", "RAP-0002"


@pytest.fixture
def enrolling() -> Iterator[Enrolling]:
    store = store_with_a_box()
    store.authorize_also(OTHER, "berlin", 0)
    yield Enrolling(store)
    store.close()


def test_an_instrument_gets_a_certificate_with_no_name_but_its_own(enrolling: Enrolling) -> None:
    pem = CA.certify(INSTRUMENT, make_key().public_key(), hosts=("rap-box.example", "10.77.1.1"))
    current = x509.load_pem_x509_certificate(pem)
    outcome = enrolling.ask_behind(make_key(), INSTRUMENT, current=current)
    assert isinstance(outcome, Granted)
    names = outcome.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [INSTRUMENT.lower()]
    assert not names.get_values_for_type(x509.IPAddress)


def test_a_repeated_request_gets_the_same_certificate_and_a_renewal_another(enrolling: Enrolling) -> None:
    key = make_key()
    first = enrolling.ask_behind(key, INSTRUMENT)
    assert isinstance(first, Granted) and enrolling.ask_behind(key, INSTRUMENT) == first
    enrolling.now_ms += 61 * DAY_MS
    renewed = enrolling.ask_behind(make_key(), INSTRUMENT, current=first.certificate)
    assert isinstance(renewed, Granted) and renewed != first


def test_an_expired_instrument_needs_an_approval_by_staff_who_may_configure_its_box(
    enrolling: Enrolling,
) -> None:
    key, current = make_key(), enrolling.current(INSTRUMENT)
    enrolling.now_ms += 700 * DAY_MS
    assert enrolling.ask_behind(key, INSTRUMENT, current=current) == PendingApproval()
    (request,) = enrolling.desk.requests("supervisor", enrolling.now_ms)
    assert (request.box, request.instrument, request.reason) == (BOX, INSTRUMENT, "expired")
    with pytest.raises(EnrolmentRefusedError):
        enrolling.desk.approve("observer", BOX, request.key, enrolling.now_ms)
    enrolling.desk.approve("supervisor", BOX, request.key, enrolling.now_ms)
    assert isinstance(enrolling.ask_behind(key, INSTRUMENT, current=current), Granted)
    assert enrolling.ask_behind(make_key(), INSTRUMENT, current=current) == PendingApproval(), "another key"


def test_an_instrument_that_is_known_behind_another_box_needs_an_approval(enrolling: Enrolling) -> None:
    assert isinstance(enrolling.ask_behind(make_key(), INSTRUMENT), Granted)
    key = make_key()
    assert enrolling.ask_behind(key, INSTRUMENT, OTHER) == PendingApproval()
    (request,) = enrolling.desk.requests("supervisor", enrolling.now_ms)
    assert (request.box, request.reason) == (OTHER, "other-box")
    enrolling.desk.approve("supervisor", OTHER, key_hash(key.public_key()), enrolling.now_ms)
    assert isinstance(enrolling.ask_behind(key, INSTRUMENT, OTHER), Granted)
    assert isinstance(enrolling.ask_behind(make_key(), INSTRUMENT, OTHER), Granted), "known there now"


@pytest.mark.parametrize("name", [BOX, OTHER])
def test_no_box_gets_a_certificate_in_the_name_of_a_box(enrolling: Enrolling, name: str) -> None:
    assert isinstance(enrolling.ask_behind(make_key(), name), Rejected)


def test_a_box_that_is_not_authorized_cannot_forward_requests(enrolling: Enrolling) -> None:
    assert isinstance(enrolling.ask_behind(make_key(), INSTRUMENT, "RAP-0099"), Rejected)


def test_a_certificate_of_another_ca_is_no_identity(enrolling: Enrolling) -> None:
    other = Authority.make("vendor")  # of the same name
    pem = other.certify(INSTRUMENT, make_key().public_key())
    current = x509.load_pem_x509_certificate(pem)
    assert isinstance(enrolling.ask_behind(make_key(), INSTRUMENT, current=current), Rejected)


def test_a_request_for_another_name_is_refused(enrolling: Enrolling) -> None:
    current = enrolling.current(INSTRUMENT)
    with pytest.raises(RequestError, match="is for CHEM-0002, not CHEM-0001"):
        enrolling.registration.enrol_instrument(BOX, current, make_request("CHEM-0002", make_key()))


def test_a_denied_instrument_gets_no_certificate_and_its_box_is_told(enrolling: Enrolling) -> None:
    desk, now_ms = enrolling.desk, enrolling.now_ms
    with pytest.raises(EnrolmentRefusedError, match="has received no certificate"):
        desk.deny("supervisor", BOX, "stolen", now_ms, INSTRUMENT)
    assert isinstance(enrolling.ask_behind(make_key(), INSTRUMENT), Granted)
    desk.deny("supervisor", BOX, "stolen", now_ms, INSTRUMENT)
    assert [one.name for one in desk.denied("supervisor", now_ms)] == [f"{INSTRUMENT} behind {BOX}"]
    denied = DeniedBoxes(enrolling.store)
    assert denied.instruments(BOX) == [INSTRUMENT] and not denied.instruments(OTHER) and BOX not in denied
    assert isinstance(enrolling.ask_behind(make_key(), INSTRUMENT), Rejected)
    assert isinstance(enrolling.ask(make_key()), Granted), "the box itself is not denied"
    desk.allow("supervisor", BOX, now_ms, INSTRUMENT)
    assert isinstance(enrolling.ask_behind(make_key(), INSTRUMENT), Granted)


def test_requests_of_instruments_that_wait_are_bounded_and_leave_room_for_the_box(
    enrolling: Enrolling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacenter.enrolment.registration.WAITING_OF_INSTRUMENTS_MAX", 2)
    current = enrolling.current()
    enrolling.now_ms += 700 * DAY_MS
    assert enrolling.ask(make_key(), current=current) == PendingApproval()
    for number in range(4):
        enrolling.now_ms += 1
        enrolling.ask_behind(make_key(), f"CHEM-{number}")
    waiting = enrolling.desk.requests("supervisor", enrolling.now_ms)
    assert [one.instrument for one in waiting].count("") == 1
    assert len(waiting) == 3
