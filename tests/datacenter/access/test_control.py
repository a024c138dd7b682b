"""Access control refuses unknown staff and forged tokens, records every decision, and reloads its files."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from datacenter.access.control import AccessControl, AccessFiles
from datacenter.access.decision import Decision
from datacenter.access.four_eyes import (
    APPROVAL_MS,
    REQUEST_MS,
    ChangeApproval,
    NotApproved,
    PendingChange,
    approve,
    decide_change,
)
from datacenter.access.request import ApiToken, RequestContext, Resource
from settings.problems import SettingsError
from tests.support.datacenter.access.lists import COLUMNS

NOW_MS = 1_790_000_000_000
STAFF = f"""
[staff.engineer]
roles = ["application-specialist"]
scope = ["country/DE"]
trainings = {{ hematology-analyzer = 2026-10-01 }}
[staff.bo]
roles = ["supervisor"]
scope = ["region/europe"]
[staff.cy]
roles = ["supervisor", "application-specialist"]
scope = ["everywhere"]
trainings = {{ hematology-analyzer = 2030-10-01 }}
[token.export]
owner = "engineer"
actions = ["read"]
scope = ["country/DE"]
expires = 2027-01-01
sha256 = "{hashlib.sha256(b"secret").hexdigest()}"
"""
INSTRUMENT = Resource("Instrument", "HEMA-0001", "berlin", "DE", "europe", "hematology-analyzer")
CONTEXT = RequestContext(NOW_MS, "application-support")


class Recorded(list[Decision]):
    """Records decisions in memory."""

    def __call__(self, decision: Decision) -> None:
        self.append(decision)


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "staff.toml"
    file.write_text(STAFF)
    return file


@pytest.fixture
def access(file: Path, recorded: Recorded) -> AccessControl:
    return AccessControl(AccessFiles(file), recorded)


def test_permissions_and_refusals_are_recorded(access: AccessControl, recorded: Recorded) -> None:
    assert access.decide("engineer", "send-file", INSTRUMENT, CONTEXT).permitted
    assert not access.decide("bo", "send-file", INSTRUMENT, CONTEXT).permitted
    assert [(each.request.principal.id, each.permitted) for each in recorded] == [
        ("engineer", True),
        ("bo", False),
    ]
    access.peek("bo", "send-file", INSTRUMENT, CONTEXT)
    assert len(recorded) == 2


@pytest.mark.parametrize(
    "name", ["", "Engineer", "engineer ", "root", 'engineer" || true || "', "engineer\x00"]
)
def test_unknown_staff_are_refused_and_recorded(access: AccessControl, recorded: Recorded, name: str) -> None:
    decision = access.decide(name, "view", INSTRUMENT, CONTEXT)
    assert not decision.permitted
    assert decision.reason == f"there is no {name} in the staff directory"
    assert recorded == [decision]
    assert str(access.where(name, "view", "Instrument", CONTEXT, COLUMNS)) == "false"


def test_unknown_staff_are_refused_by_policies_that_permit_everything(tmp_path: Path, file: Path) -> None:
    everything = tmp_path / "all.cedar"
    everything.write_text('@id("all") permit (principal, action, resource);')
    access = AccessControl(AccessFiles(file, (everything,)), lambda _: None)
    assert access.decide("engineer", "view", INSTRUMENT, CONTEXT).permitted
    assert not access.decide("nobody", "view", INSTRUMENT, CONTEXT).permitted


def test_a_permission_that_cannot_be_recorded_is_not_given(file: Path) -> None:
    def full(_: Decision) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        AccessControl(AccessFiles(file), full).decide("engineer", "send-file", INSTRUMENT, CONTEXT)


def test_a_token_is_known_by_its_secret_and_limits_its_owner(access: AccessControl) -> None:
    entry = access.token("secret")
    assert entry is not None
    owner, token = entry
    context = replace(CONTEXT, token=token)
    assert access.decide(owner, "view", INSTRUMENT, context).permitted
    assert not access.decide(owner, "send-file", INSTRUMENT, context).permitted
    assert access.token("other") is None


def test_a_forged_token_is_refused(access: AccessControl) -> None:
    entry = access.token("secret")
    assert entry is not None
    _, token = entry
    forged_tokens = [
        ApiToken("other", token.actions, token.scope, token.expires_ms),
        replace(token, actions=token.actions | {"change"}),
        replace(token, scope=frozenset({"everywhere"})),
        replace(token, expires_ms=token.expires_ms + 1),
    ]
    for forged in forged_tokens:
        decision = access.decide("engineer", "view", INSTRUMENT, replace(CONTEXT, token=forged))
        assert not decision.permitted
        assert "has no API token" in decision.reason
    assert not access.decide("bo", "view", INSTRUMENT, replace(CONTEXT, token=token)).permitted
    assert str(access.where("bo", "view", "Site", replace(CONTEXT, token=token), COLUMNS)) == "false"


def test_permitted_actions_are_listed_for_buttons(access: AccessControl) -> None:
    candidates = ["open-session", "view-session", "send-file", "send-command", "configure-assays", "view"]
    permitted = access.actions("engineer", INSTRUMENT, CONTEXT, candidates)
    assert permitted == ["view-session", "send-file", "send-command", "view"]


def test_files_are_reloaded(access: AccessControl, file: Path) -> None:
    file.write_text(STAFF.replace("2026-10-01", "2026-09-01"))
    assert access.decide("engineer", "send-file", INSTRUMENT, CONTEXT).permitted
    access.reload(AccessFiles(file))
    assert not access.decide("engineer", "send-file", INSTRUMENT, CONTEXT).permitted


def test_files_with_mistakes_change_nothing(tmp_path: Path, file: Path) -> None:
    policies = tmp_path / "p.cedar"
    policies.write_text('@id("all") permit (principal, action, resource);')
    files = AccessFiles(file, (policies,))
    access = AccessControl(files, lambda _: None)
    policies.write_text('@id("all") permit (principal, action == Action::"veiw", resource);')
    file.write_text("")
    with pytest.raises(SettingsError, match="did you mean view"):
        access.reload(files)
    assert access.decide("engineer", "view", INSTRUMENT, CONTEXT).permitted
    policies.write_text('@id("all") @reason("r") forbid (principal, action, resource);')
    with pytest.raises(SettingsError, match="staff"):
        access.reload(files)
    assert access.decide("engineer", "view", INSTRUMENT, CONTEXT).permitted
    file.write_text(STAFF)
    access.reload(files)
    assert not access.decide("engineer", "view", INSTRUMENT, CONTEXT).permitted


CHANGE = PendingChange(
    "C-1", "engineer", "configure-assays", INSTRUMENT, "application-support", "ab" * 32, NOW_MS
)


def test_a_dangerous_change_needs_the_approval_of_a_second_person(
    access: AccessControl, recorded: Recorded
) -> None:
    assert "approval of a second person" in decide_change(access, CHANGE, None, NOW_MS).reason
    approval = approve(access, CHANGE, "bo", CONTEXT)
    assert decide_change(access, CHANGE, approval, NOW_MS).permitted
    assert [(each.request.principal.id, each.request.action, each.permitted) for each in recorded] == [
        ("engineer", "configure-assays", False),
        ("bo", "approve", True),
        ("engineer", "configure-assays", True),
    ]


def test_nobody_approves_their_own_change(access: AccessControl) -> None:
    own = replace(CHANGE, requester="cy")
    with pytest.raises(NotApproved, match="nobody approves a change that they requested"):
        approve(access, own, "cy", CONTEXT)
    forged = ChangeApproval(own.digest, "cy", "application-support", NOW_MS)
    with pytest.raises(NotApproved, match="nobody approves a change that they requested"):
        decide_change(access, own, forged, NOW_MS)


@pytest.mark.parametrize("by", ["engineer", "nobody", ""])
def test_only_staff_with_the_right_approve(access: AccessControl, by: str) -> None:
    with pytest.raises(NotApproved):
        approve(access, replace(CHANGE, requester="cy"), by, CONTEXT)


def test_an_approval_is_for_exactly_one_change(access: AccessControl) -> None:
    approval = approve(access, CHANGE, "bo", CONTEXT)
    other_changes = [
        replace(CHANGE, content_sha256="cd" * 32),
        replace(CHANGE, resource=replace(INSTRUMENT, id="HEMA-0002")),
        replace(CHANGE, id="C-2"),
        replace(CHANGE, requester="cy"),
        replace(CHANGE, action="update-box"),
        replace(CHANGE, requested_ms=NOW_MS - 1),
    ]
    for other in other_changes:
        with pytest.raises(NotApproved, match="is for another change"):
            decide_change(access, other, approval, NOW_MS)


@pytest.mark.parametrize(
    ("offset_ms", "valid"), [(-1, False), (0, True), (APPROVAL_MS - 1, True), (APPROVAL_MS, False)]
)
def test_an_approval_is_valid_for_a_day(access: AccessControl, offset_ms: int, valid: bool) -> None:
    approval = approve(access, CHANGE, "bo", CONTEXT)
    if valid:
        assert decide_change(access, CHANGE, approval, NOW_MS + offset_ms).permitted
    else:
        with pytest.raises(NotApproved, match="is not valid at this time"):
            decide_change(access, CHANGE, approval, NOW_MS + offset_ms)


@pytest.mark.parametrize(
    ("offset_ms", "possible"), [(-1, False), (0, True), (REQUEST_MS - 1, True), (REQUEST_MS, False)]
)
def test_a_change_can_be_approved_for_seven_days(
    access: AccessControl, offset_ms: int, possible: bool
) -> None:
    context = replace(CONTEXT, now_ms=NOW_MS + offset_ms)
    if possible:
        assert approve(access, CHANGE, "bo", context).by == "bo"
    else:
        with pytest.raises(NotApproved, match="for 7 days"):
            approve(access, CHANGE, "bo", context)


def test_rights_are_checked_again_when_the_change_is_carried_out(access: AccessControl, file: Path) -> None:
    approval = approve(access, CHANGE, "bo", CONTEXT)
    file.write_text(STAFF.replace('roles = ["supervisor"]', 'roles = ["viewer"]'))
    access.reload(AccessFiles(file))
    with pytest.raises(NotApproved, match="bo no longer has the right to approve: no policy permits bo"):
        decide_change(access, CHANGE, approval, NOW_MS)
    file.write_text(STAFF.replace("2026-10-01", "2026-09-01"))
    access.reload(AccessFiles(file))
    assert "expired 2026-09-01" in decide_change(access, CHANGE, approval, NOW_MS).reason
