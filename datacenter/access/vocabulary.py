"""The vocabulary of policies: resource types with their attributes, actions with their groups, roles and purposes.

`SCHEMA` is the vocabulary as a Cedar schema, by which the reference engine checks the types in policies.

Staff have `roles`, a `scope` (locations), and a tag for each instrument model that they are trained for: the time at
which the training expires. Times are in milliseconds since 1970. Each resource is at a site, in a country and in a
region, as far as these apply, and always at `Location::"everywhere"`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from settings.profile import Severity, Verb

Role: TypeAlias = Literal[
    "viewer",
    "service-engineer",
    "application-specialist",
    "installer",
    "supervisor",
    "administrator",
    "auditor",
]
Purpose: TypeAlias = Literal[
    "monitoring", "service", "installation", "application-support", "administration", "audit"
]
Level: TypeAlias = Literal["site", "country", "region"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)
LEVELS: Final[tuple[Level, ...]] = get_args(Level)
"""Levels of locations, the smallest first. A location is written `country/DE`."""
EVERYWHERE: Final = "everywhere"
"""The location that contains all others."""
ENUMS: Final[dict[str, tuple[str, ...]]] = {
    "Role": ROLES,
    "Purpose": PURPOSES,
    "Severity": get_args(Severity),
}
"""Entity types with a fixed set of names."""

KINDS: Final[dict[str, dict[str, str]]] = {
    "Site": {},
    "Box": {},
    "Instrument": {"model": "String"},
    "Alert": {"model": "String", "severity": "Severity"},
    "Command": {"model": "String", "requester": "Staff"},
    "File": {"model": "String"},
    "Session": {"model": "String", "staff": "Staff"},
    "Rollout": {"requester": "Staff"},
    "ChangeRequest": {"model": "String", "requester": "Staff", "change": "Action"},
    "Trigger": {"model": "String"},
    "Policy": {},
    "StaffRecord": {"staff": "Staff"},
    "Audit": {},
}
"""The resource types, each with the types of its attributes."""
STAFF: Final = {"active": "Bool", "scope": "Set<Location>"}
"""The attributes of staff, in addition to roles and trainings."""
TOKEN: Final = {"actions": "Set<Action>", "scope": "Set<Location>", "expires_ms": "Long"}
"""The attributes of an API token."""
APPROVAL: Final = {"by": "Staff", "expires_ms": "Long"}
"""The attributes of the approval of a change by a second person."""
CONTEXT: Final = {"now_ms": "Long", "purpose": "Purpose", "token": "Token", "approval": "Approval"}
"""The attributes of a request's context. `token` and `approval` are optional."""
OPTIONAL: Final = ("token", "approval")
RECORDS: Final[dict[str, dict[str, str]]] = {"Token": TOKEN, "Approval": APPROVAL}

GROUPS: Final = {
    "read": "actions that change nothing",
    "change": "all other actions",
    "remote": "actions that reach into an instrument, for which training is required",
    "four-eyes": "dangerous changes, which a second person must approve",
    "handle-alert": "actions that handle an alert",
}


@dataclass(frozen=True)
class ActionType:
    """An action: what it does, the types of its resources, and its groups."""

    text: str
    kinds: tuple[str, ...]
    groups: tuple[str, ...]


def _action(text: str, kinds: str, groups: str) -> ActionType:
    return ActionType(text, tuple(kinds.split()), tuple(groups.split()))


ACTIONS: Final[dict[str, ActionType]] = {
    "view": _action("see", "Site Box Instrument Alert Command File Session Trigger Rollout", "read"),
    "export": _action("export data of", "Site Box Instrument Alert", "read"),
    "download-file": _action("download", "File", "read"),
    "replay-session": _action("replay the recording of", "Session", "read"),
    "view-staff": _action("see", "StaffRecord", "read"),
    "view-policy": _action("see", "Policy", "read"),
    "read-audit": _action("read", "Audit", "read"),
    "acknowledge-alert": _action("acknowledge", "Alert", "change handle-alert"),
    "silence-alert": _action("silence", "Alert", "change handle-alert"),
    "resolve-alert": _action("resolve", "Alert", "change handle-alert"),
    "silence-site": _action("silence all alerts of", "Site", "change"),
    "send-file": _action("send a file to", "Instrument", "change remote"),
    "upload-file": _action("have a data file uploaded by", "Instrument", "change remote"),
    "send-command": _action("send a command to", "Instrument", "change remote"),
    "configure-assays": _action("change assays or settings of", "Instrument", "change remote four-eyes"),
    "withdraw-command": _action("withdraw", "Command", "change"),
    "open-session": _action("control the desktop of", "Instrument", "change remote"),
    "view-session": _action("watch the desktop of", "Instrument", "change remote"),
    "end-session": _action("end", "Session", "change"),
    "annotate-session": _action("write a note about", "Session", "change"),
    "approve": _action("approve", "ChangeRequest", "change"),
    "edit-trigger": _action("edit", "Trigger", "change"),
    "enable-trigger": _action("put into operation", "Trigger", "change"),
    "enrol-box": _action("enrol a box at", "Site", "change"),
    "configure-box": _action("configure", "Box", "change"),
    "file-papers": _action("file papers and evidence of", "Box", "change"),
    "update-box": _action("install a release on", "Box Rollout", "change four-eyes"),
    "control-rollout": _action("pause, resume or withdraw", "Rollout", "change"),
    "dismiss-box": _action("dismiss", "Box", "change four-eyes"),
    "edit-policy": _action("edit", "Policy", "change four-eyes"),
    "manage-staff": _action("change roles, scope or trainings in", "StaffRecord", "change four-eyes"),
    "issue-token": _action("issue an API token for", "StaffRecord", "change"),
    "revoke-token": _action("revoke an API token of", "StaffRecord", "change"),
}
"""Every action of staff pages, API and command line."""

VERB_ACTIONS: Final[dict[Verb, str]] = {
    "help-file": "send-file",
    "assay-configuration": "configure-assays",
    "test-menu": "configure-assays",
    "data-upload": "upload-file",
    "send-inventory": "send-command",
}
"""The action that a command with this verb requires."""

CLOSURES: Final = {name: frozenset({name, *action.groups}) for name, action in ACTIONS.items()}
"""For each action, its own name and the names of its groups."""
PAIRS: Final = tuple((name, kind) for name, action in ACTIONS.items() for kind in action.kinds)
"""Every action with each type of its resources."""


def members(name: str) -> list[str]:
    """Return the actions of a group, or the action itself; none for an unknown name."""
    return [action for action, closure in CLOSURES.items() if name in closure]


def location(level: Level, name: str) -> str:
    """Return the name of a location."""
    return f"{level}/{name}"


def _schema() -> str:
    lines = [f"entity {name} enum [{_quoted(words)}];" for name, words in ENUMS.items()]
    lines += ["entity Location in [Location];", f"entity Staff in [Role] = {_record(STAFF)} tags Long;"]
    lines += [f"entity {kind} in [Location] = {_record(attributes)};" for kind, attributes in KINDS.items()]
    lines += [f"type {name} = {_record(attributes)};" for name, attributes in RECORDS.items()]
    lines += [f"type Context = {_record(CONTEXT)};"]
    lines += [f'action "{group}";' for group in GROUPS]
    lines += [
        f'action "{name}" in [{_quoted(action.groups)}] appliesTo'
        f" {{ principal: Staff, resource: [{', '.join(action.kinds)}], context: Context }};"
        for name, action in ACTIONS.items()
    ]
    return "\n".join(lines) + "\n"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _record(attributes: dict[str, str]) -> str:
    fields = (f"{name}{'?' * (name in OPTIONAL)}: {kind}" for name, kind in attributes.items())
    return f"{{ {', '.join(fields)} }}"


SCHEMA: Final = _schema()
"""The vocabulary as a Cedar schema."""
