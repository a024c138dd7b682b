"""Determines the staff member whom the claims of a verified ID token describe.

An attribute for which a claim is configured is taken only from the claim; the other attributes from the staff
directory, which must then contain the person. A person who is not active in the directory is refused. The claims are
read once, at the sign-on; the person is looked up at each request, so that a change of the directory also
applies to open sessions.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final

from msgspec import Struct

from datacenter.access.directory import NAME_CHARACTERS_MAX, ExpiryForm, LocationForm, StaffPerson, is_zone
from datacenter.access.request import Principal
from datacenter.access.vocabulary import ROLES, Role
from datacenter.sign_on.settings import Oidc
from settings.profile import profile_problem

VALUES_MAX: Final = 1000
NAME_SHOWN_MAX: Final = 200


class ClaimError(Exception):
    """The claims do not describe a member of the staff; the text says why."""


class ClaimedPerson(Struct, frozen=True):
    """The attributes of a person in the claims; None selects the value of the staff directory."""

    staff: str
    name: str
    zone: str
    roles: frozenset[Role] | None
    scope: frozenset[str] | None
    trainings: dict[str, int] | None


def read_claims(settings: Oidc, claims: Mapping[str, Any]) -> ClaimedPerson:
    """Return the attributes in the claims. Raises: ClaimError."""
    staff = _find(claims, settings.person)
    if not isinstance(staff, str) or not _is_name(staff):
        raise ClaimError(
            f"the claim {settings.person} must be a name of 1 to {NAME_CHARACTERS_MAX} printable characters"
        )
    name, zone = claims.get("name"), claims.get("zoneinfo")
    if not (isinstance(name, str) and name.isprintable() and 0 < len(name) <= NAME_SHOWN_MAX):
        name = staff
    return ClaimedPerson(
        staff,
        name,
        zone if isinstance(zone, str) and is_zone(zone) else "UTC",
        _roles(settings, claims) if settings.roles else None,
        _locations(settings, claims) if settings.locations else None,
        _trainings(settings.trainings, claims) if settings.trainings else None,
    )


def person_of(claimed: ClaimedPerson, people: Mapping[str, StaffPerson]) -> StaffPerson:
    """Return the person. `people` is the staff directory. Raises: ClaimError."""
    staff = claimed.staff
    known = people.get(staff)
    if known is not None and not known.principal.active:
        raise ClaimError("not active in the staff directory")
    if known is None and None in (claimed.roles, claimed.scope):
        raise ClaimError("not in the staff directory, and the claims do not contain both roles and locations")
    principal = known.principal if known else Principal(staff)
    roles = principal.roles if claimed.roles is None else claimed.roles
    scope = principal.scope if claimed.scope is None else claimed.scope
    trainings = principal.trainings if claimed.trainings is None else claimed.trainings
    if not roles:
        raise ClaimError("no role")
    if not scope:
        raise ClaimError("no location")
    return StaffPerson(
        Principal(staff, roles, scope, trainings),
        known.name if known else claimed.name,
        known.zone if known else claimed.zone,
    )


def _is_name(text: str) -> bool:
    return text.isprintable() and text == text.strip() and 0 < len(text) <= NAME_CHARACTERS_MAX


def _find(claims: Mapping[str, Any], name: str) -> Any:
    """Return a claim; a name with dots also finds a member of an object, as `realm_access.roles`."""
    if name in claims:
        return claims[name]
    claim: Any = claims
    for part in name.split("."):
        if not isinstance(claim, Mapping):
            return None
        claim = claim.get(part)
    return claim


def _texts(claims: Mapping[str, Any], name: str) -> list[str]:
    """Return the texts of a claim: one text, or a list. A missing claim has no texts. Raises: ClaimError."""
    claim = _find(claims, name)
    if claim is None:
        return []
    texts = [claim] if isinstance(claim, str) else claim
    if (
        not isinstance(texts, list)
        or len(texts) > VALUES_MAX
        or not all(isinstance(text, str) for text in texts)
    ):
        raise ClaimError(f"the claim {name} must be a text or a list of at most {VALUES_MAX} texts")
    return texts


def _roles(settings: Oidc, claims: Mapping[str, Any]) -> frozenset[Role]:
    known: dict[str, Role] = settings.role or {role: role for role in ROLES}
    return frozenset(known[text] for text in _texts(claims, settings.roles or "") if text in known)


def _locations(settings: Oidc, claims: Mapping[str, Any]) -> frozenset[str]:
    texts = _texts(claims, settings.locations or "")
    if settings.location:
        return frozenset(settings.location[text] for text in texts if text in settings.location)
    try:
        return frozenset(map(LocationForm().read, texts))
    except ValueError:
        raise ClaimError(f"the claim {settings.locations} has a value that is not a location") from None


def _trainings(name: str, claims: Mapping[str, Any]) -> dict[str, int]:
    """Return the expiry of each training. Raises: ClaimError if one is invalid."""
    claim = _find(claims, name)
    pairs = list(claim.items()) if isinstance(claim, Mapping) else None
    try:
        if pairs is None:
            pairs = [(model, end) for model, _, end in (text.partition("=") for text in _texts(claims, name))]
        return {_model(model): _expiry(end) for model, end in pairs}
    except (ValueError, TypeError):
        raise ClaimError(
            f"the claim {name} must have a date like 2027-01-01 for each instrument model"
        ) from None


def _model(model: Any) -> str:
    if not isinstance(model, str) or profile_problem(model):
        raise ValueError("is not a model")
    return model


def _expiry(end: Any) -> int:
    if not isinstance(end, str):
        raise TypeError("is not a date")
    given: object = date.fromisoformat(end) if len(end) == len("2027-01-01") else datetime.fromisoformat(end)
    return ExpiryForm().read(given)
