"""The shipped policies satisfy their theorems, and each hole that is planted in them is detected."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

import pytest

from datacenter.access.compiled import CompiledPolicies
from datacenter.access.language.policy import PolicySet
from datacenter.access.language.policyfile import parse_policies, read_policies
from datacenter.access.proof.prove import TheoremResult, prove, without_effect
from datacenter.access.proof.theorems import read_theorems
from datacenter.access.vocabulary import PAIRS
from settings.problems import SettingsError
from tests.support.datacenter.access.cases import FILE, random_policies, world
from tests.support.datacenter.access.formulas import proven
from tests.support.datacenter.access.reference import decisions

THEOREMS = read_theorems()


@cache
def read_shipped() -> PolicySet:
    return read_policies()


def shipped(name: str) -> str:
    """Return the text of a shipped policy."""
    return next(policy.text for policy in read_shipped().policies if policy.id == name)


def failing(policies: PolicySet, names: set[str]) -> dict[str, TheoremResult]:
    """Return the results of the theorems that the policies violate, among those with these names."""
    theorems = [theorem for theorem in THEOREMS if theorem.table.name in names]
    return {result.theorem.table.name: result for result in prove(policies, theorems) if not result.holds}


def permit(scope: str, when: str = "true") -> str:
    return f'\n@id("hole") permit ({scope}) when {{ {when} }};\n'


ANY = "principal, action, resource"
ROLES = '[Role::"viewer", Role::"service-engineer", Role::"administrator"]'
HOLES = {
    "no training required": (shipped("training-required"), "", {"training"}),
    "training of another model": (
        shipped("training-required"),
        shipped("training-required").replace("resource.model", '"chemistry-analyzer"'),
        {"training"},
    ),
    "training counts until its expiry and a moment longer": (
        shipped("training-required"),
        shipped("training-required").replace("context.now_ms < principal", "context.now_ms <= principal"),
        {"training"},
    ),
    "training without expiry": (
        shipped("training-required"),
        shipped("training-required").replace(" && context.now_ms < principal.getTag(resource.model)", ""),
        {"training"},
    ),
    "training not for commands": (
        'action in Action::"remote", resource)',
        'action in [Action::"open-session", Action::"view-session", Action::"send-file"], resource)',
        {"training"},
    ),
    "no limit to the scope": (shipped("outside-scope"), "", {"scope", "country"}),
    "supervisors are not limited to their scope": (
        "resource in principal.scope ||",
        'resource in principal.scope || principal in Role::"supervisor" ||',
        {"scope", "country"},
    ),
    "one country is open to everybody": (
        "resource in principal.scope ||",
        'resource in principal.scope || resource in Location::"country/FR" ||',
        {"scope", "country"},
    ),
    "former staff still work": (shipped("inactive-staff"), "", {"inactive"}),
    "former staff end their sessions": (
        "unless { principal.active };",
        'unless { principal.active || action == Action::"end-session" };',
        {"inactive"},
    ),
    "everybody sees everything in their scope": (
        "",
        permit('principal, action == Action::"view", resource'),
        {"role"},
    ),
    "viewers acknowledge alerts": (
        "",
        permit('principal in Role::"viewer", action in Action::"handle-alert", resource'),
        {"viewer", "critical-alert"},
    ),
    "auditors edit triggers": (
        shipped("auditors-change-nothing"),
        shipped("auditors-change-nothing").replace(
            'action in Action::"change"', 'action in [Action::"remote", Action::"four-eyes"]'
        ),
        {"auditor"},
    ),
    "auditors who are also supervisors change something": (
        shipped("auditors-change-nothing"),
        shipped("auditors-change-nothing")[:-1] + ' unless { principal in Role::"supervisor" };',
        {"auditor"},
    ),
    "administrators read the audit log": (
        shipped("read-audit"),
        shipped("read-audit").replace('Role::"auditor"', 'Role::"administrator"'),
        {"audit-log"},
    ),
    "the audit log is read for monitoring": (
        shipped("read-audit"),
        shipped("read-audit").replace("context.purpose ==", "context.purpose !="),
        {"audit-log"},
    ),
    "own changes are approved": (shipped("own-change-request"), "", {"own-request"}),
    "one person is enough": (shipped("second-person"), "", {"second-person"}),
    "oneself is the second person": (
        "context.approval.by != principal && ",
        "",
        {"second-person"},
    ),
    "approvals do not expire": (
        " && context.now_ms < context.approval.expires_ms",
        "",
        {"second-person"},
    ),
    "updates need no second person": (
        'action in Action::"four-eyes"',
        'action in [Action::"configure-assays", Action::"dismiss-box", Action::"manage-staff"]',
        {"second-person"},
    ),
    "administrators change their own rights": (shipped("own-staff-record"), "", {"own-rights"}),
    "supervisors change staff": (
        "",
        permit('principal in Role::"supervisor", action == Action::"manage-staff", resource'),
        {"administration"},
    ),
    "administrators open sessions": (
        "",
        permit('principal in Role::"administrator", action == Action::"view-session", resource'),
        {"administrator", "session-purpose"},
    ),
    "sessions for monitoring": (
        shipped("watch-desktop"),
        shipped("watch-desktop").replace('Purpose::"service"', 'Purpose::"monitoring"'),
        {"session-purpose"},
    ),
    "everybody ends sessions": (
        "",
        permit('principal in Role::"installer", action == Action::"end-session", resource'),
        {"foreign-session"},
    ),
    "engineers silence critical alerts": (
        'resource.severity != Severity::"critical" &&',
        'resource.severity != Severity::"info" &&',
        {"critical-alert"},
    ),
    "administrators issue tokens for others": (
        "",
        permit('principal in Role::"administrator", action == Action::"issue-token", resource'),
        {"foreign-token"},
    ),
    "a token gives a right": (
        "",
        permit('principal in Role::"viewer", action == Action::"export", resource', "context has token"),
        {"token-rights"},
    ),
    "no training with a token": (
        "unless { principal.hasTag",
        "unless { context has token || principal.hasTag",
        {"training", "token-rights"},
    ),
    "expired tokens": (shipped("token-expired"), "", {"token-limits"}),
    "a token is valid at its expiry": (
        "context.token.expires_ms <= context.now_ms",
        "context.token.expires_ms < context.now_ms",
        {"token-limits"},
    ),
    "tokens for all actions": (shipped("token-actions"), "", {"token-limits"}),
    "tokens for all places": (shipped("token-scope"), "", {"token-limits"}),
    "tokens approve": (shipped("tokens-are-for-people"), "", {"token-people"}),
    "nobody opens sessions": (
        "",
        '\n@id("hole") @reason("r") forbid (principal, action == Action::"open-session", resource);',
        {"engineer-works"},
    ),
    "nobody reads the audit log": (shipped("read-audit"), "", {"auditor-works"}),
    "nobody administers": (shipped("administer"), "", {"administrator-works"}),
    "nobody approves": (shipped("approve-change"), "", {"supervisor-approves"}),
}


@cache
def planted(name: str) -> PolicySet:
    """Return the shipped policies with a hole: a text is replaced in one policy, or a policy is added."""
    old, new, _ = HOLES[name]
    policies = list(read_shipped().policies)
    if old:
        [index] = [index for index, policy in enumerate(policies) if old in policy.text]
        text = policies[index].text.replace(old, new) if old != policies[index].text else new
        policies[index : index + 1] = parse_policies(text, FILE)
    else:
        policies += parse_policies(new, FILE)
    return PolicySet(tuple(policies))


@cache
def shipped_results() -> tuple[TheoremResult, ...]:
    return tuple(prove(read_shipped(), THEOREMS))


def test_the_shipped_policies_fulfil_all_theorems() -> None:
    assert [result.words for result in shipped_results() if not result.holds] == []
    assert len(shipped_results()) >= 20


def test_every_shipped_policy_has_an_effect() -> None:
    assert list(without_effect(read_shipped())) == []


@pytest.mark.parametrize("name", HOLES)
def test_a_planted_hole_is_found_with_a_counterexample(name: str) -> None:
    violated = failing(planted(name), HOLES[name][2])
    assert set(violated) == HOLES[name][2]
    policies = CompiledPolicies(planted(name))
    for result in violated.values():
        assert result.words
        if result.request is not None:
            assert policies.decide(result.request).permitted
            assert decisions(policies.policies, [result.request])[0][0]


def test_every_theorem_is_needed_for_some_hole() -> None:
    violated = {theorem for _, _, theorems in HOLES.values() for theorem in theorems}
    assert {theorem.table.name for theorem in THEOREMS} == violated


def test_a_counterexample_is_described_in_words() -> None:
    words = failing(planted("no training required"), {"training"})["training"].words
    assert "(roles service-engineer; scope " in words or "(roles application-specialist; scope " in words
    assert "training expired 2026-09-20" in words
    assert "may send a file to Instrument" in words
    assert words.endswith("permitted by policy transfer-files")


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (
            permit('principal, action == Action::"view", resource', "principal.active && !principal.active"),
            "hole",
            "never applies",
        ),
        (
            permit('principal in Role::"auditor", action == Action::"send-command", resource'),
            "hole",
            "has no effect: other policies forbid every request that it permits",
        ),
    ],
)
def test_a_policy_without_effect_is_found(text: str, name: str, message: str) -> None:
    policies = PolicySet((*read_shipped().policies, *parse_policies(text, FILE)))
    assert [(policy.id, finding.partition(":")[0]) for policy, finding in without_effect(policies)] == [
        (name, message.partition(":")[0])
    ]


WRONG = [
    (
        'never = "principal.activ"',
        "theorem[0].never: unknown attribute `activ` of `principal`: did you mean active?",
    ),
    ('never = "true"\npossible = "true"', "must have exactly one of `never`, `possible` and `without`"),
    ("", "must have exactly one"),
    ('never = "true"\nactions = ["veiw"]', "theorem[0].actions: unknown action veiw: did you mean view?"),
    ('never = "true"\nactions = []', "theorem[0].actions"),
    ('never = "resource.model == \\"x\\""', "limit the policy to Instrument"),
    ('never = "true }; permit (principal, action, resource) when { true"', "syntax error"),
    ('never = "true } unless { principal.active"', "syntax error"),
    ('never = "true"\nwithout = "tokens"', "did you mean token?"),
    ('sometimes = "true"', "unknown key"),
]


@pytest.mark.parametrize(("lines", "message"), WRONG)
def test_a_wrong_theorem_is_reported(lines: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "theorems.toml"
    file.write_text(f'[[theorem]]\nname = "a"\ntext = "A."\n{lines}\n')
    with pytest.raises(SettingsError) as raised:
        read_theorems(file)
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"{file}:")


def test_two_theorems_of_one_name_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "theorems.toml"
    file.write_text('[[theorem]]\nname = "a"\ntext = "A."\nnever = "true"\n' * 2)
    with pytest.raises(SettingsError, match=r":6: theorem\[1\]\.name: a is the name of another theorem"):
        read_theorems(file)


def test_formulas_decide_as_the_compiled_policies() -> None:
    random, permitted = Random(8), 0
    for number in range(30):
        pair, data = random.choice(PAIRS), world(random)
        policies = CompiledPolicies(read_shipped() if number % 3 == 0 else random_policies(random, pair))
        request, listed = data.request(random, pair), data.resources[pair[1]]
        decided = [policies.decide(replace(request, resource=one)).permitted for one in listed]
        assert proven(policies.policies, request, listed) == decided
        permitted += sum(decided)
    assert 40 < permitted < 200
