"""The claims of a verified ID token give a member of staff, or are refused with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from datacenter.access.directory import StaffPerson
from datacenter.access.request import Principal
from datacenter.sign_on.claims import ClaimError, person_of, read_claims
from datacenter.sign_on.settings import Oidc

SETTINGS = Oidc(
    "https://login.example.com",
    "rap",
    "https://rap.example.com",
    person="preferred_username",
    roles="realm_access.roles",
    locations="places",
    trainings="trainings",
    role={"rap-service": "service-engineer", "rap-audit": "auditor"},
)
CLAIMS = {
    "sub": "7f3a",
    "preferred_username": "berger",
    "name": "B. Berger",
    "zoneinfo": "Europe/Vienna",
    "realm_access": {"roles": ["offline_access", "rap-service", "rap-audit"]},
    "places": ["country/AT", "site/berlin-1"],
    "trainings": {"chemistry-analyzer": "2027-01-01"},
}
JANUARY_MS = 1_798_761_600_000
KNOWN = StaffPerson(
    Principal("berger", frozenset({"viewer"}), frozenset({"everywhere"}), {"blood-gas-analyzer": 5}),
    "Berger, B.",
    "Europe/Zurich",
)


def staff_of(settings: Oidc, claims: Mapping[str, Any], people: Mapping[str, StaffPerson]) -> StaffPerson:
    return person_of(read_claims(settings, claims), people)


def test_roles_locations_and_trainings_are_those_of_the_claims() -> None:
    person = staff_of(SETTINGS, CLAIMS, {})
    assert person.principal == Principal(
        "berger",
        frozenset({"service-engineer", "auditor"}),
        frozenset({"country/AT", "site/berlin-1"}),
        {"chemistry-analyzer": JANUARY_MS},
    )
    assert (person.name, person.zone) == ("B. Berger", "Europe/Vienna")


def test_the_directory_provides_what_no_claim_provides() -> None:
    settings = Oidc(
        "https://login.example.com", "rap", "https://rap.example.com", person="preferred_username"
    )
    assert staff_of(settings, CLAIMS, {"berger": KNOWN}) == KNOWN
    with_roles = replace_settings(roles="roles", role={}, locations=None, trainings=None)
    person = staff_of(with_roles, {**CLAIMS, "roles": "auditor"}, {"berger": KNOWN})
    assert person.principal == replace(KNOWN.principal, roles=frozenset({"auditor"}))


def test_claims_replace_what_the_directory_has() -> None:
    person = staff_of(SETTINGS, {**CLAIMS, "trainings": None}, {"berger": KNOWN})
    assert person.principal.roles == {"service-engineer", "auditor"}
    assert person.principal.scope == {"country/AT", "site/berlin-1"}
    assert person.principal.trainings == {}
    assert (person.name, person.zone) == (KNOWN.name, KNOWN.zone)


def test_trainings_may_be_a_list_of_texts_or_times() -> None:
    texts = ["chemistry-analyzer=2027-01-01", "blood-gas-analyzer=2027-01-01T01:00:00+01:00"]
    trainings = staff_of(SETTINGS, {**CLAIMS, "trainings": texts}, {}).principal.trainings
    assert trainings == {"chemistry-analyzer": JANUARY_MS, "blood-gas-analyzer": JANUARY_MS}


def test_locations_may_be_mapped() -> None:
    settings = replace_settings(location={"austria": "country/AT"})
    person = staff_of(settings, {**CLAIMS, "places": ["austria", "everywhere", "region/europe"]}, {})
    assert person.principal.scope == {"country/AT"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"preferred_username": None}, "preferred_username must be a name"),
        ({"preferred_username": " berger"}, "preferred_username must be a name"),
        ({"preferred_username": "b" * 65}, "preferred_username must be a name"),
        ({"preferred_username": ["berger"]}, "preferred_username must be a name"),
        ({"realm_access": {"roles": []}}, "no role"),
        ({"realm_access": ["rap-service"]}, "no role"),
        ({"realm_access": {"roles": ["administrator"]}}, "no role"),
        ({"realm_access": {"roles": [{"rap-service": True}]}}, "realm_access.roles must be a text or a list"),
        ({"realm_access": {"roles": 7}}, "realm_access.roles must be a text or a list"),
        ({"places": []}, "no location"),
        ({"places": None}, "no location"),
        ({"places": ["Vienna"]}, "places has a value that is not a location"),
        ({"trainings": {"chemistry-analyzer": "soon"}}, "trainings must have a date"),
        ({"trainings": {"chemistry-analyzer": 1_798_761_600}}, "trainings must have a date"),
        ({"trainings": {"no-such-model": "2027-01-01"}}, "trainings must have a date"),
        ({"trainings": {"chemistry-analyzer": "2027-01-01T01:00:00"}}, "trainings must have a date"),
        ({"trainings": ["chemistry-analyzer"]}, "trainings must have a date"),
    ],
)
def test_claims_that_do_not_describe_a_member_of_the_staff_are_refused(
    changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(ClaimError, match=reason.replace(".", r"\.")):
        staff_of(SETTINGS, {**CLAIMS, **changes}, {})


def test_inactive_people_and_people_missing_in_the_directory_are_refused() -> None:
    former = replace(KNOWN, principal=replace(KNOWN.principal, active=False))
    with pytest.raises(ClaimError, match="not active in the staff directory"):
        staff_of(SETTINGS, CLAIMS, {"berger": former})
    for settings in (replace_settings(roles=None, role={}), replace_settings(locations=None)):
        with pytest.raises(ClaimError, match="not in the staff directory"):
            staff_of(settings, CLAIMS, {})


def replace_settings(**changes: object) -> Oidc:
    return msgspec.structs.replace(SETTINGS, **changes)
