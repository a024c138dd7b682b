"""Changes of the access files are recorded: each person, API token and policy that differs."""

from __future__ import annotations

from dataclasses import replace

from datacenter.access.compiled import CompiledPolicies
from datacenter.access.control import AccessRules
from datacenter.access.directory import StaffDirectory, TokenEntry
from datacenter.access.language.policy import PolicySet
from datacenter.access.language.policyfile import read_policies
from datacenter.access.request import ApiToken, Principal
from datacenter.audit.access_changes import REASON, access_changes

POLICIES = read_policies()
ENGINEER = Principal(
    "engineer", frozenset({"service-engineer"}), frozenset({"everywhere"}), {"gas": 86_400_000}
)
TOKEN = TokenEntry(
    ApiToken("export", frozenset({"read"}), frozenset({"everywhere"}), 0), "engineer", "0" * 64
)


def rules(
    *staff: Principal, tokens: dict[str, TokenEntry] | None = None, policies: PolicySet = POLICIES
) -> AccessRules:
    return AccessRules(
        CompiledPolicies(policies), StaffDirectory({one.id: one for one in staff}, tokens or {})
    )


def recorded(before: AccessRules, after: AccessRules) -> list[tuple[str, str, str]]:
    entries = access_changes(before, after, 5)
    assert all(one.reason.endswith(REASON) and one.at_ms == 5 and not one.actor for one in entries)
    return [(one.action, one.resource, one.reason.removesuffix(f"; {REASON}")) for one in entries]


def test_nothing_is_recorded_if_nothing_differs() -> None:
    assert not recorded(rules(ENGINEER), rules(replace(ENGINEER)))


def test_added_removed_and_changed_staff_are_recorded() -> None:
    other = replace(ENGINEER, id="other", trainings={}, active=False)
    assert recorded(rules(ENGINEER), rules(replace(ENGINEER, trainings={}), other)) == [
        (
            "manage-staff",
            "engineer",
            "now: roles service-engineer; scope everywhere; before: roles service-engineer; scope everywhere;"
            " trainings gas until 1970-01-02T00:00Z",
        ),
        ("manage-staff", "other", "added: roles service-engineer; scope everywhere; not active"),
    ]
    assert [text[:7] for _, _, text in recorded(rules(ENGINEER, other), rules(ENGINEER))] == ["removed"]


def test_tokens_and_policies_are_recorded() -> None:
    before, after = rules(ENGINEER), rules(ENGINEER, tokens={"export": TOKEN})
    assert [one[:2] for one in recorded(before, after)] == [("issue-token", "export")]
    first, *others = POLICIES.policies
    changed = PolicySet((replace(first, text=first.text + " "), *others[1:]))
    entries = recorded(before, rules(ENGINEER, policies=changed))
    assert sorted(one[:2] for one in entries) == sorted(
        [("edit-policy", first.id), ("edit-policy", others[0].id)]
    )
