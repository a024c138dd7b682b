"""Records the effects of a changed staff directory or of changed policies: which rights and which policies differ.

The files are changed outside of this program by anyone with write access: the records state what took effect and
when, but not who changed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from datacenter.access.control import AccessRules
from datacenter.access.request import Principal
from datacenter.audit.chain import AuditEntry
from datacenter.audit.trail import AuditTrail
from datacenter.store.store import Store

REASON: Final = "the file was changed outside of this program"


def access_recorder(store: Store, now_ms: Callable[[], int]) -> Callable[[AccessRules, AccessRules], object]:
    """Return a function that appends the records of a change. It raises StoreError."""
    return lambda before, after: AuditTrail(store).append(access_changes(before, after, now_ms()))


def access_changes(before: AccessRules, after: AccessRules, now_ms: int) -> list[AuditEntry]:
    """Return the records of a change: one for each person, API token and policy that differs."""
    entries = []
    for kind, action, old, new in (
        ("StaffRecord", "manage-staff", _staff(before), _staff(after)),
        ("StaffRecord", "issue-token", _tokens(before), _tokens(after)),
        ("Policy", "edit-policy", _policies(before), _policies(after)),
    ):
        for name, text in _differences(old, new):
            reason = f"{text}; {REASON}"
            entries.append(
                AuditEntry(now_ms, "", "", action, kind, name, "", "administration", "permitted", "", reason)
            )
    return entries


def _differences(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            yield name, f"removed: {old[name]}"
        elif name not in old:
            yield name, f"added: {new[name]}"
        elif old[name] != new[name]:
            yield name, f"now: {new[name]}; before: {old[name]}"


def _staff(rules: AccessRules) -> dict[str, str]:
    return {name: _of_person(person) for name, person in rules.directory.staff.items()}


def _of_person(person: Principal) -> str:
    trainings = ", ".join(f"{model} until {_day(ms)}" for model, ms in sorted(person.trainings.items()))
    parts = [
        f"roles {', '.join(sorted(person.roles)) or 'none'}",
        f"scope {', '.join(sorted(person.scope)) or 'none'}",
    ]
    return "; ".join(
        [*parts, *[f"trainings {trainings}"] * bool(trainings), *["not active"] * (not person.active)]
    )


def _tokens(rules: AccessRules) -> dict[str, str]:
    return {
        name: f"API token of {entry.owner}: actions {', '.join(sorted(entry.token.actions))};"
        f" scope {', '.join(sorted(entry.token.scope))}; until {_day(entry.token.expires_ms)}"
        for name, entry in rules.directory.tokens.items()
    }


def _policies(rules: AccessRules) -> dict[str, str]:
    policies = rules.policies.policies.policies
    return {
        policy.id: f"{policy.effect}, text with SHA-256 {sha256(policy.text.encode()).hexdigest()}"
        for policy in policies
    }


def _day(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%MZ}"
