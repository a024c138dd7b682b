"""Holes in the enforcement of access control: small changes of the product, each with the check that detects it.

`tests/datacenter/access/test_proofs.py` has the holes in the policies, which theorems detect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import true
from starlette.exceptions import HTTPException
from starlette.requests import Request

import datacenter.access.compiled
import datacenter.access.language.sql
import datacenter.commands.desk
import datacenter.fleet.visible
import datacenter.web.application
import datacenter.web.routes
from datacenter.access.control import AccessDecider
from datacenter.access.four_eyes import ChangeApproval
from datacenter.access.language.expression import Negation, Relation
from datacenter.access.proof.smt import SymbolicRequest
from datacenter.access.tokens import StoredToken
from datacenter.audit.access_log import AccessLog
from datacenter.commands.desk import CommandDesk
from datacenter.fleet.visible import Visibility
from datacenter.web import forms
from datacenter.web.api.callers import Callers
from datacenter.web.application import _Guarded
from datacenter.web.pages import ROUTES
from datacenter.web.routes import NotFoundError, RefusedError, WebRoute, WebServices, check_access
from datacenter.web.sessions import StaffSession, StaffSessions
from tests.support.datacenter.web.client import PEOPLE

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]
PLANTED: dict[str, tuple[str, str, Plant]] = {}
"""By name of the hole: the check that detects it, a part of the check's finding, and the change."""
ALL_SEEING = PEOPLE["engineer"].principal


def planted(check: str, finding: str = "") -> Callable[[Plant], Plant]:
    """Register a hole that `check` must detect with a finding that contains `finding`."""

    def register(plant: Plant) -> Plant:
        PLANTED[plant.__name__] = (check, finding, plant)
        return plant

    return register


def _row(patch: Patch, path: str, **changes: Any) -> None:
    """Change the fields of a row of the route table."""
    assert any(row.path == path for row in ROUTES)
    changed = tuple(replace(row, **changes) if row.path == path else row for row in ROUTES)
    patch.setattr(datacenter.web.application, "ROUTES", changed)
    patch.setattr(datacenter.web.application.make_web, "__defaults__", ((), changed))


def _unfiltered(patch: Patch, path: str) -> None:
    """Let the handler of a list use the rights of a person who may see everything."""
    (row,) = (one for one in ROUTES if one.path == path)

    def handler(page: Any) -> Any:
        visible = replace(page.visible, principal=ALL_SEEING, token=None)
        return row.handler(replace(page, visible=visible, staff=ALL_SEEING.id))

    _row(patch, path, handler=handler)


# -- rows of the route table


@planted("something_foreign_looks_like_nothing", "GET /boxes/{box}")
def a_page_without_a_check(patch: Patch) -> None:
    _row(patch, "/boxes/{box}", kind="")


@planted("something_foreign_looks_like_nothing", "readings.parquet")
def a_parquet_export_without_a_check(patch: Patch) -> None:
    _row(patch, "/instruments/{box}/{instrument}/readings.parquet", kind="")


@planted("something_foreign_looks_like_nothing", "readings.json")
def a_chart_without_a_check(patch: Patch) -> None:
    _row(patch, "/instruments/{box}/{instrument}/readings.json", kind="")


@planted("something_foreign_looks_like_nothing", "evidence.json")
def evidence_without_a_check(patch: Patch) -> None:
    _row(patch, "/alerts/{alert}/evidence.json", kind="")


@planted("something_foreign_looks_like_nothing", "GET /api/v1/instruments/{box}/{instrument}:")
def an_instrument_of_the_api_without_a_check(patch: Patch) -> None:
    _row(patch, "/api/v1/instruments/{box}/{instrument}", kind="")


@planted("every_right_is_required", "readings.csv")
def an_export_that_needs_only_the_right_to_view(patch: Patch) -> None:
    _row(patch, "/instruments/{box}/{instrument}/readings.csv", action="view")


@planted("every_right_is_required", "acknowledge")
def an_acknowledgement_that_needs_only_the_right_to_view(patch: Patch) -> None:
    _row(patch, "/alerts/{alert}/acknowledge", action="view")


@planted("every_right_is_required", "audit.csv")
def an_audit_log_for_everybody(patch: Patch) -> None:
    _row(patch, "/audit.csv", kind="")


@planted("tokens_have_only_their_own_rights", "another purpose")
def a_purpose_of_tokens_that_is_ignored(patch: Patch) -> None:
    original = Visibility

    def visibility(policies: Any, principal: Any, now_ms: int, _purpose: str, *token: Any) -> Visibility:
        return original(policies, principal, now_ms, "audit", *token)

    patch.setattr(datacenter.web.application, "Visibility", visibility)


# -- lists


@planted("answers_have_only_what_the_person_may_see", "GET /: european sees")
def a_fleet_list_without_the_filter(patch: Patch) -> None:
    _unfiltered(patch, "/")


@planted("answers_have_only_what_the_person_may_see", "GET /alerts:")
def a_list_of_alerts_without_the_filter(patch: Patch) -> None:
    _unfiltered(patch, "/alerts")


@planted("answers_have_only_what_the_person_may_see", "GET /instruments.csv")
def an_export_of_the_fleet_without_the_filter(patch: Patch) -> None:
    _unfiltered(patch, "/instruments.csv")


@planted("answers_have_only_what_the_person_may_see", "GET /api/v1/boxes")
def a_list_of_the_api_without_the_filter(patch: Patch) -> None:
    _unfiltered(patch, "/api/v1/boxes")


@planted("answers_have_only_what_the_person_may_see", "GET /base")
def an_installed_base_without_the_filter(patch: Patch) -> None:
    _unfiltered(patch, "/base")


@planted("answers_have_only_what_the_person_may_see", "GET /commands")
def a_list_of_commands_without_the_filter(patch: Patch) -> None:
    patch.setattr(AccessDecider, "where", lambda *_: true())


@planted("tokens_have_only_their_own_rights", "outside the scope")
def lists_that_ignore_the_scope_of_tokens(patch: Patch) -> None:
    original = Visibility.where
    patch.setattr(Visibility, "where", lambda self, *given: original(replace(self, token=None), *given))


# -- existence


def _check_access(patch: Patch, reveal: Callable[[Exception], Exception]) -> None:
    """Raise the exception that `reveal` returns for resources that exist but may not be seen."""

    def revealing(route: WebRoute, services: Any, visible: Any, names: Any) -> Any:
        try:
            return check_access(route, services, visible, names)
        except NotFoundError as error:
            if datacenter.web.routes._find(route, services, visible, names) is None:
                raise
            raise reveal(error) from None

    patch.setattr(datacenter.web.application, "check_access", revealing)


@planted("something_foreign_looks_like_nothing", "403 for a foreign name")
def existence_revealed_by_the_status(patch: Patch) -> None:
    _check_access(patch, lambda _: RefusedError("outside the scope"))


@planted("something_foreign_looks_like_nothing", "404 for a foreign name, 404 for an unknown name")
def existence_revealed_by_the_form_of_the_answer(patch: Patch) -> None:
    _check_access(patch, lambda _: HTTPException(404))


@planted("something_foreign_looks_like_nothing", "GET /commands with instrument, box")
def existence_revealed_by_a_name_in_the_query(patch: Patch) -> None:
    patch.setattr(datacenter.web.routes.PageRequest, "permits", lambda *_: True)


@planted("an_instrument_is_found_at_its_own_box_alone")
def an_instrument_found_by_its_serial_number_alone(patch: Patch) -> None:
    def find(store: Any, _box: str, instrument: str) -> Any:
        boxes = ["RAP-0001", "RAP-0003"]
        matches = (datacenter.fleet.visible.find_instrument(store, box, instrument) for box in boxes)
        match = next(filter(None, matches), None)
        return match and replace(match, site="berlin-1", country="DE", region="europe")

    patch.setitem(
        datacenter.web.routes._FIND,
        "Instrument",
        lambda store, names: find(store, names["box"], names["instrument"]),
    )


# -- the audit log


@planted("every_refusal_is_recorded")
def refusals_that_are_not_recorded(patch: Patch) -> None:
    original = AccessLog.decision
    patch.setattr(
        AccessLog, "decision", lambda self, one, **_: original(self, one) if one.permitted else None
    )


@planted("every_refusal_is_recorded", "(404)")
def names_that_are_tried_and_not_recorded(patch: Patch) -> None:
    original = AccessLog.decision
    patch.setattr(
        AccessLog,
        "decision",
        lambda self, one, **_: original(self, one) if one.permitted or one.policy else None,
    )


@planted("every_access_is_recorded", "GET /alerts:")
def lists_that_are_not_recorded(patch: Patch) -> None:
    patch.setattr(AccessLog, "listing", lambda *_, **__: None)


# -- sessions, forms and tokens


@planted("every_route_needs_a_session", "with an expired session")
def sessions_without_an_expiry(patch: Patch) -> None:
    original = StaffSessions.find
    patch.setattr(StaffSessions, "find", lambda self, cookie, now_ms: original(self, cookie, now_ms - 1000))


@planted("every_route_needs_a_session", "after signing out")
def sessions_that_signing_out_does_not_end(patch: Patch) -> None:
    patch.setattr(StaffSessions, "end", lambda *_: None)


@planted("every_route_needs_a_session", "for an inactive person")
def sessions_of_former_staff(patch: Patch) -> None:
    patch.setattr(
        WebServices, "person", lambda self, one: self.directory.people.get(one.staff) if one else None
    )


@planted("forged_forms_have_no_effect", "no token")
def forms_without_their_token(patch: Patch) -> None:
    patch.setattr(StaffSession, "is_form_token", lambda *_: True)


@planted("forged_forms_have_no_effect", "the token of another session")
def form_tokens_that_are_those_of_all_sessions(patch: Patch) -> None:
    patch.setattr(StaffSession, "form_token", "one for all")


@planted("forged_forms_have_no_effect", "a request from another site")
def forms_of_other_sites(patch: Patch) -> None:
    async def read_form(request: Request) -> list[tuple[str, str]]:
        headers = [pair for pair in request.scope["headers"] if pair[0] != b"sec-fetch-site"]
        return await forms.read_form(Request({**request.scope, "headers": headers}, request.receive))

    patch.setattr(datacenter.web.application, "read_form", read_form)


@planted("forged_forms_have_no_effect", "a cookie alone")
def changes_by_the_api_with_a_cookie(patch: Patch) -> None:
    original = Callers.identify

    async def identify(self: Any, request: Request, *, changes: bool) -> Any:
        return await original(self, request, changes=False)

    patch.setattr(Callers, "identify", identify)


@planted("invalid_tokens_are_refused", "an expired token")
def tokens_without_an_expiry(patch: Patch) -> None:
    patch.setattr(StoredToken, "state", lambda self, _: "revoked" if self.revoked_at_ms else "valid")


@planted("invalid_tokens_are_refused", "a revoked token")
def tokens_that_cannot_be_revoked(patch: Patch) -> None:
    patch.setattr(StoredToken, "state", lambda self, now: "valid" if now < self.expires_at_ms else "expired")


@planted("tokens_have_only_their_own_rights", "an action that the token does not include")
def tokens_for_all_actions(patch: Patch) -> None:
    original = StoredToken.limits.fget  # type: ignore[attr-defined]
    everything = frozenset({"read", "change"})
    patch.setattr(StoredToken, "limits", property(lambda self: replace(original(self), actions=everything)))


@planted("foreign_host_names_are_refused")
def any_host_name(patch: Patch) -> None:
    patch.setattr(_Guarded, "_is_own", lambda *_: True)


# -- commands


@planted("commands_need_a_valid_training", "an expired training")
def trainings_compared_with_the_past(patch: Patch) -> None:
    original = CommandDesk.send

    def send(self: Any, actor: Any, box: str, instrument: str, order: Any, _now: int) -> Any:
        return original(self, actor, box, instrument, order, 2**41)

    patch.setattr(CommandDesk, "send", send)


@planted("answers_have_only_what_the_person_may_see", "GET /files")
def a_list_of_files_without_the_filter(patch: Patch) -> None:
    _unfiltered(patch, "/files")


@planted("every_right_is_required", "GET /api/v1/commands/{command}/file")
def downloads_by_everybody(patch: Patch) -> None:
    patch.setattr(datacenter.commands.desk, "_require", lambda _: None)


@planted("commands_need_a_valid_training", "POST /api/v1/instruments/{box}/{instrument}/files")
def files_sent_after_a_refusal(patch: Patch) -> None:
    patch.setattr(datacenter.commands.desk, "_require", lambda _: None)


@planted("commands_need_a_valid_training", "without a training for the model")
def commands_sent_after_a_refusal(patch: Patch) -> None:
    patch.setattr(datacenter.commands.desk, "_require", lambda _: None)


@planted("dangerous_commands_need_a_second_person", "for the requester")
def the_requester_as_the_second_person(patch: Patch) -> None:
    def approve(_access: Any, change: Any, _by: str, context: Any) -> ChangeApproval:
        return ChangeApproval(change.digest, "specialist", context.purpose, context.now_ms)

    patch.setattr(datacenter.commands.desk, "approve", approve)
    patch.setattr(datacenter.commands.desk, "_require", lambda _: None)
    patch.setattr("datacenter.access.four_eyes._check", lambda *_: None)


# -- decisions, lists and formulas


@planted("decisions_lists_and_formulas_agree", "decision and list differ")
def lists_that_no_policy_forbids(patch: Patch) -> None:
    original = datacenter.access.language.sql._not
    patch.setattr(
        datacenter.access.language.sql,
        "_not",
        lambda part: True if not isinstance(part, bool) else original(part),
    )


@planted("decisions_lists_and_formulas_agree", "decision and list differ")
def decisions_at_the_moment_of_expiry(patch: Patch) -> None:
    original = datacenter.access.compiled._text

    def text(condition: Any, constants: Any) -> str:
        if isinstance(condition, Relation) and condition.sign == "<":
            condition = replace(condition, sign="<=")
        return original(condition, constants)

    patch.setattr(datacenter.access.compiled, "_text", text)


@planted("decisions_lists_and_formulas_agree", "decision and formula differ")
def formulas_without_negations(patch: Patch) -> None:
    original = SymbolicRequest.formula

    def formula(self: SymbolicRequest, condition: Any) -> Any:
        return original(self, condition.operand if isinstance(condition, Negation) else condition)

    patch.setattr(SymbolicRequest, "formula", formula)
