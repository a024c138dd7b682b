"""Boxes get certificates at once, after an approval by authorized staff, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from cryptography import x509
from sqlalchemy import Table, insert, update

from datacenter.enrolment.desk import LISTED_MAX, EnrolmentRefusedError, FlashedBox
from datacenter.enrolment.registration import (
    RENEWALS_PER_DAY,
    WAITING_OF_BOX_MAX,
    Granted,
    PendingApproval,
    Rejected,
    approved_boxes,
)
from datacenter.store.tables.schema import boxes, certificates, denied_boxes, enrolments, sites
from tests.support.datacenter.enrolling import BOX, CA, DAY_MS, START_MS, Enrolling, store_with_a_box
from wire.pki.hierarchy import Validity, make_key
from wire.pki.request import RequestError, key_hash, make_request


@pytest.fixture
def enrolling() -> Iterator[Enrolling]:
    store = store_with_a_box()
    yield Enrolling(store)
    store.close()


def test_a_known_box_with_a_valid_certificate_gets_another_for_90_days(enrolling: Enrolling) -> None:
    key = make_key()
    outcome = enrolling.ask(key)
    assert isinstance(outcome, Granted)
    issued = outcome.certificate
    issued.verify_directly_issued_by(CA.certificate)
    assert issued.public_key() == key.public_key()
    assert issued.not_valid_after_utc.timestamp() == START_MS / 1000 + 90 * 86_400
    assert issued.not_valid_before_utc.timestamp() < START_MS / 1000


def test_the_new_certificate_keeps_the_names_by_which_instruments_connect(enrolling: Enrolling) -> None:
    hosts = ("rap-box.example", "10.77.1.1", "fd00::1")
    pem = CA.certify(BOX, make_key().public_key(), hosts=hosts)
    outcome = enrolling.ask(make_key(), current=x509.load_pem_x509_certificate(pem))
    assert isinstance(outcome, Granted)
    names = outcome.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["rap-box.example"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.77.1.1", "fd00::1"]


def test_a_repeated_request_gets_the_same_certificate(enrolling: Enrolling) -> None:
    key = make_key()
    first = enrolling.ask(key)
    enrolling.now_ms += DAY_MS
    assert enrolling.ask(key) == first
    assert enrolling.ask(make_key()) != first
    causes = [one.cause for one in enrolling.desk.certificates("observer", enrolling.now_ms)]
    assert causes == ["renewal"]


def test_step_ca_177_a_box_whose_certificate_expired_in_a_cupboard_needs_one_approval(
    enrolling: Enrolling,
) -> None:
    key, current = make_key(), enrolling.current()
    enrolling.now_ms += 730 * DAY_MS
    assert enrolling.ask(key, current=current) == enrolling.ask(key, current=current) == PendingApproval()
    (request,) = enrolling.desk.requests("supervisor", enrolling.now_ms)
    assert (request.box, request.reason, request.key) == (BOX, "expired", key_hash(key.public_key()))
    enrolling.desk.approve("supervisor", BOX, request.key[:16], enrolling.now_ms)
    assert enrolling.ask(make_key(), current=current) == PendingApproval(), "the approval is for one key"
    outcome = enrolling.ask(key, current=current)
    assert isinstance(outcome, Granted)
    enrolling.now_ms += 60 * DAY_MS
    assert isinstance(enrolling.ask(make_key(), current=outcome.certificate), Granted), "renews by itself"


def test_an_approval_is_used_once(enrolling: Enrolling) -> None:
    key, current = make_key(), enrolling.current()
    enrolling.now_ms += 730 * DAY_MS
    enrolling.ask(key, current=current)
    enrolling.desk.approve("supervisor", BOX, key_hash(key.public_key()), enrolling.now_ms)
    assert isinstance(enrolling.ask(key, current=current), Granted)
    enrolling.now_ms += 89 * DAY_MS
    assert enrolling.ask(key, current=current) == PendingApproval()


def test_a_certificate_that_is_not_valid_yet_needs_an_approval(enrolling: Enrolling) -> None:
    current = enrolling.current()
    enrolling.now_ms -= 2 * DAY_MS
    assert enrolling.ask(make_key(), current=current) == PendingApproval()


def test_an_unknown_box_is_authorized_by_an_installer_at_a_site(enrolling: Enrolling) -> None:
    key = make_key()
    assert enrolling.ask(key, "RAP-0009") == PendingApproval()
    digest = key_hash(key.public_key())
    with pytest.raises(EnrolmentRefusedError, match="name an existing site"):
        enrolling.desk.approve("installer", "RAP-0009", digest, enrolling.now_ms)
    with pytest.raises(EnrolmentRefusedError):
        enrolling.desk.approve("observer", "RAP-0009", digest, enrolling.now_ms, "berlin")
    enrolling.desk.approve("installer", "RAP-0009", digest, enrolling.now_ms, "berlin")
    assert isinstance(enrolling.ask(key, "RAP-0009"), Granted)
    enrolling.store.authorize([BOX, *approved_boxes(enrolling.store)], enrolling.now_ms)
    assert isinstance(enrolling.ask(make_key(), "RAP-0009"), Granted), "also after a restart of the program"


def flashed(box: str) -> tuple[FlashedBox, x509.Certificate]:
    """Return a flashed box as in its flash record, and the certificate of its identity."""
    key = make_key()
    validity = Validity.days(825, datetime.fromtimestamp(START_MS / 1000, UTC))
    pem = CA.certify(box, key.public_key(), validity=validity)
    return FlashedBox(box, key_hash(key.public_key())), x509.load_pem_x509_certificate(pem)


def test_a_registered_box_gets_its_first_certificate_without_an_approval(enrolling: Enrolling) -> None:
    box, current = flashed("RAP-0007")
    enrolling.desk.register("installer", [box], "berlin", enrolling.now_ms)
    enrolling.store.authorize([BOX, *approved_boxes(enrolling.store)], enrolling.now_ms)
    first = enrolling.ask(make_key(), "RAP-0007", current)
    assert isinstance(first, Granted)
    assert isinstance(enrolling.ask(make_key(), "RAP-0007", first.certificate), Granted), "with its own key"
    (entry,) = enrolling.desk.requests("supervisor", enrolling.now_ms)
    assert (entry.box, entry.reason, entry.state, entry.decided_by) == (
        *box[:1],
        "flashed",
        "issued",
        "installer",
    )
    assert isinstance(enrolling.ask(make_key()), Granted), "a box that is not registered needs no certain key"


def test_a_key_other_than_that_of_the_flash_record_needs_an_approval(enrolling: Enrolling) -> None:
    (box, current), (again, current_again) = flashed("RAP-0007"), flashed("RAP-0007")
    enrolling.desk.register("installer", [box], "berlin", enrolling.now_ms)
    key = make_key()
    assert enrolling.ask(key, "RAP-0007", current_again) == PendingApproval()
    reasons = {one.key: one.reason for one in enrolling.desk.requests("supervisor", enrolling.now_ms)}
    assert reasons == {box.key: "flashed", key_hash(key.public_key()): "other-key"}
    enrolling.desk.register("installer", [again], "berlin", enrolling.now_ms)
    assert isinstance(enrolling.ask(make_key(), "RAP-0007", current_again), Granted), "it was flashed again"
    assert enrolling.ask(make_key(), "RAP-0007", current) == PendingApproval(), "the earlier disk"


def test_a_box_can_be_registered_by_its_serial_number_alone(enrolling: Enrolling) -> None:
    enrolling.desk.register("installer", [FlashedBox("RAP-0007", "")], "berlin", enrolling.now_ms)
    assert isinstance(enrolling.ask(make_key(), "RAP-0007"), Granted)


def test_boxes_are_registered_at_a_known_site_by_staff_who_may_enrol_there(enrolling: Enrolling) -> None:
    box, current = flashed("RAP-0007")
    for staff, site in (("installer", "nowhere"), ("observer", "berlin"), ("specialist", "berlin")):
        with pytest.raises(EnrolmentRefusedError):
            enrolling.desk.register(staff, [box], site, enrolling.now_ms)
    assert enrolling.ask(make_key(), "RAP-0007", current) == PendingApproval()
    assert not enrolling.decisions[0].permitted


@pytest.mark.parametrize("staff", ["observer", "auditor", "former", "newcomer", "specialist"])
def test_others_may_neither_approve_nor_deny(enrolling: Enrolling, staff: str) -> None:
    key, current = make_key(), enrolling.current()
    enrolling.now_ms += 730 * DAY_MS
    enrolling.ask(key, current=current)
    digest = key_hash(key.public_key())
    for act in (
        lambda: enrolling.desk.approve(staff, BOX, digest, enrolling.now_ms),
        lambda: enrolling.desk.reject(staff, BOX, digest, enrolling.now_ms),
        lambda: enrolling.desk.deny(staff, BOX, "stolen", enrolling.now_ms),
        lambda: enrolling.desk.allow(staff, BOX, enrolling.now_ms),
    ):
        with pytest.raises(EnrolmentRefusedError):
            act()
    assert enrolling.ask(key, current=current) == PendingApproval()


def test_every_decision_is_recorded(enrolling: Enrolling) -> None:
    enrolling.desk.deny("supervisor", BOX, "stolen", enrolling.now_ms)
    enrolling.desk.allow("supervisor", BOX, enrolling.now_ms)
    decisions = [(one.request.action, one.request.principal.id, one.permitted) for one in enrolling.decisions]
    assert decisions == [("configure-box", "supervisor", True)] * 2


def test_a_rejected_request_gets_nothing_and_another_key_asks_again(enrolling: Enrolling) -> None:
    key, current = make_key(), enrolling.current()
    enrolling.now_ms += 730 * DAY_MS
    enrolling.ask(key, current=current)
    enrolling.desk.reject("supervisor", BOX, key_hash(key.public_key()), enrolling.now_ms)
    assert isinstance(enrolling.ask(key, current=current), Rejected)
    assert enrolling.ask(make_key(), current=current) == PendingApproval()


def test_a_denied_box_gets_nothing_until_it_is_allowed(enrolling: Enrolling) -> None:
    key = make_key()
    assert isinstance(enrolling.ask(key), Granted)
    enrolling.desk.deny("supervisor", BOX, "stolen from the van", enrolling.now_ms)
    assert enrolling.ask(key) == Rejected("RAP-0001 is on the deny-list")
    (entry,) = enrolling.desk.denied("supervisor", enrolling.now_ms)
    assert entry.reason == "stolen from the van"
    enrolling.desk.allow("supervisor", BOX, enrolling.now_ms)
    assert isinstance(enrolling.ask(key), Granted)
    with pytest.raises(EnrolmentRefusedError, match="is not on the deny-list"):
        enrolling.desk.allow("supervisor", BOX, enrolling.now_ms)


def test_a_box_that_asks_too_often_has_to_wait(enrolling: Enrolling) -> None:
    for _ in range(RENEWALS_PER_DAY):
        assert isinstance(enrolling.ask(make_key()), Granted)
    outcome = enrolling.ask(make_key())
    assert isinstance(outcome, Rejected) and outcome.retry_after_s
    enrolling.now_ms += DAY_MS
    assert isinstance(enrolling.ask(make_key()), Granted)


def test_only_the_latest_requests_of_a_box_wait(enrolling: Enrolling) -> None:
    current = enrolling.current()
    enrolling.now_ms += 730 * DAY_MS
    keys = [make_key() for _ in range(WAITING_OF_BOX_MAX + 3)]
    for key in keys:
        enrolling.now_ms += 1000
        enrolling.ask(key, current=current)
    waiting = {one.key for one in enrolling.desk.requests("supervisor", enrolling.now_ms)}
    assert waiting == {key_hash(key.public_key()) for key in keys[-WAITING_OF_BOX_MAX:]}


def test_a_request_in_another_name_is_refused(enrolling: Enrolling) -> None:
    request = make_request("RAP-0002", make_key())
    with pytest.raises(RequestError, match="is for RAP-0002, not RAP-0001"):
        enrolling.registration.enrol(BOX, enrolling.current(), request)


def test_a_list_has_all_permitted_rows_however_many_others_precede_them(enrolling: Enrolling) -> None:
    others = [f"A-{number}" for number in range(LISTED_MAX)]
    store, later_ms = enrolling.store, START_MS + DAY_MS
    site = {"site": "reno", "name": "R", "country": "US", "region": "america", "zone": "UTC"}
    store.authorize([BOX, *others], START_MS)
    with store.transaction() as connection:
        connection.execute(insert(sites).values(site))
        connection.execute(update(boxes).where(boxes.c.serial.in_(others)).values(site="reno"))
        for table in (certificates, denied_boxes, enrolments):
            connection.execute(insert(table), [_row_of(table, box, later_ms) for box in (*others, BOX)])
    desk = enrolling.desk
    for list_for in (desk.requests, desk.certificates, desk.denied):
        assert {one.box for one in list_for("european", later_ms)} == {BOX}


def _row_of(table: Table, box: str, at_ms: int) -> dict[str, object]:
    """Return a row of a table of certificates, requests or denied boxes."""
    values: dict[type, object] = {int: at_ms, str: box, bytes: box.encode()}
    return {column.name: values[column.type.python_type] for column in table.columns}
