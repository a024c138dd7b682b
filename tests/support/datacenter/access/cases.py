"""Random staff, resources, requests and policies, in which boundary values and unusual names are frequent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from datacenter.access.language.policy import AccessPolicy, PolicySet
from datacenter.access.language.policyfile import parse_policies
from datacenter.access.request import (
    AccessRequest,
    ApiToken,
    Approval,
    Principal,
    RequestContext,
    Resource,
)
from datacenter.access.vocabulary import (
    ACTIONS,
    EVERYWHERE,
    GROUPS,
    KINDS,
    PAIRS,
    PURPOSES,
    ROLES,
    location,
)
from settings.problems import SettingsError
from tests.support.paths import FIXTURES

STAFF = ["engineer", "bo", "o'clock", 'x" || true || "', "été", "e\u0301te\u0301", "%_\\", "staff; --"]
MODELS = ["hematology-analyzer", "chemistry-analyzer", 'it\'s "new"', "モデル"]
SITES = {
    "berlin": ("DE", "europe"),
    'people\'s "lab"': ("IE", "europe"),
    "münchen": ("DE", "europe"),
    "boston": ("US", "america"),
    "';DROP TABLE x;--": ("US", "america"),
}
SEVERITIES = ["info", "warning", "error", "critical"]
NOW_MS = 1_790_000_000_000
TIMES = [
    0,
    NOW_MS - 86_400_000,
    NOW_MS - 1_000,
    NOW_MS - 1,
    NOW_MS,
    NOW_MS + 1,
    NOW_MS + 1_000,
    NOW_MS + 86_400_000,
]
CHIEF = Principal(
    "chief",
    frozenset(role for role in ROLES if role != "auditor"),
    frozenset({EVERYWHERE}),
    dict.fromkeys(MODELS, NOW_MS + 1),
)
AUDITOR = Principal("audit", frozenset({"auditor"}), frozenset({EVERYWHERE}))
FILE = FIXTURES / "random.cedar"
"""The file name for error messages; no such file exists."""


def locations() -> list[str]:
    """Return all locations of the test data."""
    names = {location("site", site) for site in SITES}
    for country, region in SITES.values():
        names |= {location("country", country), location("region", region)}
    return [EVERYWHERE, *sorted(names)]


def some(random: Random, values: Sequence[str], count_max: int) -> frozenset[str]:
    """Return a random set of at most `count_max` values."""
    return frozenset(random.sample(values, random.randint(0, min(count_max, len(values)))))


def principal(random: Random, name: str) -> Principal:
    """Return a random member of staff."""
    trainings = {model: random.choice([*TIMES, NOW_MS * 2]) for model in MODELS if random.random() < 0.7}
    scope = frozenset({EVERYWHERE}) if random.random() < 0.3 else some(random, locations(), 3)
    roles = frozenset(role for role in ROLES if random.random() < 0.25)
    return Principal(name, roles, scope, trainings, random.random() < 0.9)


def resource(random: Random, kind: str, name: str) -> Resource:
    """Return a random resource at a site, in a country, in a region, or without a location."""
    site = random.choice(list(SITES))
    country, region = SITES[site]
    levels = random.choice(
        [("", "", ""), ("", "", region), ("", country, region), *[(site, country, region)] * 6]
    )
    values = {
        "model": random.choice(MODELS),
        "severity": random.choice(SEVERITIES),
        "requester": random.choice(STAFF),
        "staff": random.choice([*STAFF, CHIEF.id]),
        "change": random.choice(list(ACTIONS)),
    }
    own = {key: value for key, value in values.items() if key in KINDS[kind]}
    return Resource(kind, name, *levels, **own)


def context(random: Random) -> RequestContext:
    """Return a random request context: time, purpose, API token and approval."""
    token = approval = None
    if random.random() < 0.3:
        actions = some(random, [*ACTIONS, *GROUPS], 8) | (
            frozenset(GROUPS) if random.random() < 0.4 else frozenset()
        )
        token = ApiToken("ci", actions, some(random, locations(), 3), random.choice(TIMES))
    if random.random() < 0.5:
        approval = Approval(random.choice(STAFF), random.choice(TIMES))
    return RequestContext(random.choice(TIMES), random.choice(PURPOSES), token, approval)


@dataclass
class World:
    """Staff and resources to which requests refer."""

    staff: list[Principal]
    resources: dict[str, list[Resource]]

    def request(self, random: Random, pair: tuple[str, str] | None = None) -> AccessRequest:
        """Return a random request, for `pair` (action, resource type) if given.

        30 % of the requests satisfy what many policies require: an authorized person, an approval, and no token.
        """
        action, kind = pair or random.choice(PAIRS)
        about = random.choice(self.resources[kind])
        if random.random() < 0.3:
            approval = Approval(STAFF[0], NOW_MS + 1)
            favorable = RequestContext(NOW_MS, random.choice(PURPOSES), None, approval)
            return AccessRequest(random.choice([CHIEF, CHIEF, AUDITOR]), action, about, favorable)
        return AccessRequest(random.choice(self.staff), action, about, context(random))


def world(random: Random, resources: int = 8) -> World:
    """Return random staff, and `resources` random resources of each type."""
    return World(
        [*(principal(random, name) for name in STAFF), AUDITOR, CHIEF],
        {
            kind: [resource(random, kind, f"{kind}-{number}'\"") for number in range(resources)]
            for kind in KINDS
        },
    )


def quoted(text: str) -> str:
    """Return a Cedar string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("'", "\\'")
    return f'"{escaped}"'


def random_policies(random: Random, pair: tuple[str, str]) -> PolicySet:
    """Return two or more random policies for one action and one resource type."""
    policies: list[AccessPolicy] = []
    count = random.randint(2, 4)
    while len(policies) < count:
        try:
            policies += parse_policies(_policy(random, pair, len(policies)), FILE, policies)
        except SettingsError as error:
            assert "never applies" in str(error), error
    return PolicySet(tuple(policies))


def _policy(random: Random, pair: tuple[str, str], number: int) -> str:
    action, kind = pair
    effect = "permit" if number == 0 else random.choice(["permit", "forbid"])
    names = random.choice([[action], [action, "view"], list(ACTIONS[action].groups)])
    scope = f"action in [{', '.join(f'Action::{quoted(name)}' for name in names)}]"
    clauses = " ".join(
        f"{random.choice(['when', 'unless'])} {{ {_condition(random, kind, 3)} }}"
        for _ in range(random.randint(1, 2))
    )
    who = random.choice(
        ["principal", "principal", f'principal in Role::"{random.choice(ROLES)}"', "principal is Staff"]
    )
    return f'@id("p{number}")\n@reason("r")\n{effect} ({who}, {scope}, resource is {kind})\n{clauses};\n'


def _condition(random: Random, kind: str, depth: int) -> str:
    if depth == 0 or random.random() < 0.25:
        return _atom(random, kind)
    parts = [_condition(random, kind, depth - 1) for _ in range(3)]
    match random.randrange(8):
        case 0 | 1:
            return f"({parts[0]} && {parts[1]})"
        case 2 | 3:
            return f"({parts[0]} || {parts[1]})"
        case 4 | 5:
            return f"!({parts[0]})"
        case 6:
            return f"(if {parts[0]} then {parts[1]} else {parts[2]})"
    return f"({parts[0]} || {parts[1]} && {parts[2]})"


def _atom(random: Random, kind: str) -> str:
    location_1, location_2 = (f"Location::{quoted(name)}" for name in random.sample(locations(), 2))
    purpose_1, purpose_2 = (f'Purpose::"{name}"' for name in random.sample(PURPOSES, 2))
    role_1, role_2 = (f'Role::"{name}"' for name in random.sample(ROLES, 2))
    person = f"Staff::{quoted(random.choice(STAFF))}"
    action = f"Action::{quoted(random.choice([*ACTIONS, *GROUPS]))}"
    model, time = quoted(random.choice(MODELS)), random.choice(TIMES)
    operator = random.choice(["<", "<=", ">", ">=", "==", "!="])
    atoms = [
        f"principal in {role_1}",
        f"principal in [{role_1}, {role_2}]",
        "principal.active",
        "principal.active == false",
        f"principal == {person}",
        f"principal in [{person}, Staff::{quoted(random.choice(STAFF))}]",
        "resource in principal.scope",
        f"resource in {location_1}",
        f"resource in [{location_1}, {location_2}]",
        f"resource is {kind} in {location_1}",
        f"resource == {kind}::{quoted(kind + '-1' + chr(39) + chr(34))}",
        f"principal.scope.contains({location_1})",
        f"principal.scope.containsAny([{location_1}, {location_2}])",
        f"principal.scope.containsAll([{location_1}, {location_2}])",
        f"context.purpose == {purpose_1}",
        f"context.purpose in [{purpose_1}, {purpose_2}]",
        f"[{purpose_1}, {purpose_2}].contains(context.purpose)",
        f"context.now_ms {operator} {time}",
        f"(principal.hasTag({model}) && principal.getTag({model}) {operator} context.now_ms)",
        "context has token",
        f"(context has token && context.token.expires_ms {operator} context.now_ms)",
        "(context has token && action in context.token.actions)",
        f"(context has token && context.token.actions.contains({action}))",
        "(context has token && resource in context.token.scope)",
        "(context has approval && context.approval.by == principal)",
        f"(context has approval && context.approval.by != {person})",
        f"(context has approval.expires_ms && context.now_ms {operator} context.approval.expires_ms)",
        f"action in {action}",
        "resource has model",
        "resource has change",
        random.choice(["true", "false"]),
    ]
    if "model" in KINDS[kind]:
        atoms += [
            f"resource.model == {model}",
            f"[{model}, {quoted(random.choice(MODELS))}].contains(resource.model)",
            "principal.hasTag(resource.model)",
            f"(principal.hasTag(resource.model) && context.now_ms {operator} principal.getTag(resource.model))",
            f"(principal.hasTag(resource.model) && {time} {operator} principal.getTag(resource.model))",
        ] * 2
    for name in ("requester", "staff"):
        if name in KINDS[kind]:
            atoms += [f"resource.{name} == principal", f"resource.{name} != {person}"] * 3
            atoms += [f"(context has approval && resource.{name} == context.approval.by)"]
    if "severity" in KINDS[kind]:
        atoms += [
            f'resource.severity {random.choice(["==", "!="])} Severity::"{random.choice(SEVERITIES)}"'
        ] * 4
    if "change" in KINDS[kind]:
        atoms += [f"resource.change == Action::{quoted(random.choice(list(ACTIONS)))}"] * 3
        atoms += [
            "resource.change == action",
            "(context has token && context.token.actions.contains(resource.change))",
        ]
    return random.choice(atoms)
