"""The interface of access control: decides requests of staff, selects lists, and records each decision.

Whatever is unknown is refused: staff who are not in the directory, API tokens of other people, actions that do
not exist. If a decision cannot be recorded, the error is raised, and nothing is permitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from sqlalchemy import ColumnElement, false

from datacenter.access.compiled import CompiledPolicies
from datacenter.access.decision import Decision
from datacenter.access.directory import StaffDirectory, TokenEntry, read_directory
from datacenter.access.language.policyfile import SHIPPED, read_policies
from datacenter.access.language.sql import Columns, where_permitted
from datacenter.access.request import AccessRequest, ApiToken, Principal, RequestContext, Resource

Recorder: TypeAlias = Callable[[Decision], None]
"""Records a decision durably, and raises an exception if it cannot."""


@dataclass(frozen=True)
class AccessFiles:
    """The files of access control: the staff directory, and the policies; by default the policies of this version."""

    directory: Path
    policies: tuple[Path, ...] = SHIPPED


@dataclass(frozen=True)
class AccessRules:
    """Policies and directory that were read together."""

    policies: CompiledPolicies
    directory: StaffDirectory


class AccessDecider:
    """Decides with given rules, and records each decision."""

    def __init__(self, rules: AccessRules, record: Recorder) -> None:
        self._rules, self._record = rules, record

    @property
    def rules(self) -> AccessRules:
        """The policies and the directory in force."""
        return self._rules

    def token(self, secret: str) -> tuple[str, ApiToken] | None:
        """Return the owner of an API token, and the token for the context; None if the secret is unknown."""
        entry = self._rules.directory.token(secret)
        return (entry.owner, entry.token) if entry else None

    def named_token(self, name: str) -> ApiToken | None:
        """Return the API token of the directory with a name, for explanations; None if there is none."""
        entry = self._rules.directory.tokens.get(name)
        return entry.token if entry else None

    def decide(self, staff: str, action: str, resource: Resource, context: RequestContext) -> Decision:
        """Decide a request and record the decision. Raises: the recorder's exceptions."""
        decision = self.peek(staff, action, resource, context)
        self._record(decision)
        return decision

    def record(self, decision: Decision) -> None:
        """Record a further decision that follows from a decision of `decide`. Raises: the recorder's exceptions."""
        self._record(decision)

    def peek(self, staff: str, action: str, resource: Resource, context: RequestContext) -> Decision:
        """Decide without a record: for pages that show which actions are possible, and for explanations."""
        rules = self._rules
        principal = rules.directory.principal(staff)
        if refusal := _unknown(rules.directory, staff, context):
            nobody = Principal(staff, active=False)
            return Decision(
                AccessRequest(principal or nobody, action, resource, context), False, None, None, refusal
            )
        assert principal is not None, "checked before"
        return rules.policies.decide(AccessRequest(principal, action, resource, context))

    def where(
        self, staff: str, action: str, kind: str, context: RequestContext, columns: Columns
    ) -> ColumnElement[bool]:
        """Return the WHERE clause for the resources of a type on which staff may perform an action.

        The query is not recorded; each action on one of its rows is. Raises: ValueError if `columns` lacks an
        attribute.
        """
        rules = self._rules
        principal = rules.directory.principal(staff)
        if principal is None or _unknown(rules.directory, staff, context):
            return false()
        return where_permitted(rules.policies.policies, principal, action, kind, context, columns)

    def actions(
        self, staff: str, resource: Resource, context: RequestContext, among: Iterable[str]
    ) -> list[str]:
        """Return the actions, among those given, that staff may perform on a resource, for the buttons of its
        page."""
        return [action for action in among if self.peek(staff, action, resource, context).permitted]


class CallerDecider(AccessDecider):
    """Decides for the caller of a page or of the API, who has been identified.

    The rights of the sign-on apply, which can differ from the staff directory; an API token limits each request.
    """

    def __init__(
        self, rules: AccessRules, record: Recorder, caller: Principal, token: ApiToken | None = None
    ) -> None:
        known = rules.directory
        tokens = {token.id: TokenEntry(token, caller.id, "")} if token else {}
        directory = StaffDirectory({**known.staff, caller.id: caller}, tokens, known.people)
        super().__init__(AccessRules(rules.policies, directory), record)
        self._caller, self._token = caller.id, token

    def peek(self, staff: str, action: str, resource: Resource, context: RequestContext) -> Decision:
        """Decide without a record, with the limits of the caller's token."""
        return super().peek(staff, action, resource, self._limited(staff, context))

    def where(
        self, staff: str, action: str, kind: str, context: RequestContext, columns: Columns
    ) -> ColumnElement[bool]:
        """Return the WHERE clause of a list, with the limits of the caller's token."""
        return super().where(staff, action, kind, self._limited(staff, context), columns)

    def _limited(self, staff: str, context: RequestContext) -> RequestContext:
        return replace(context, token=self._token) if staff == self._caller else context


class AccessControl(AccessDecider):
    """Access control with policies and a directory read from files. Raises: SettingsError if a file has mistakes."""

    def __init__(self, files: AccessFiles, record: Recorder) -> None:
        super().__init__(_read(files), record)

    def reload(self, files: AccessFiles) -> None:
        """Read the files again. Raises: SettingsError; then the previous policies and directory remain in force."""
        self._rules = _read(files)


def _read(files: AccessFiles) -> AccessRules:
    return AccessRules(CompiledPolicies(read_policies(files.policies)), read_directory(files.directory))


def _unknown(directory: StaffDirectory, staff: str, context: RequestContext) -> str:
    """Return the reason for a refusal before any policy is evaluated; empty if staff and token are known."""
    if directory.principal(staff) is None:
        return f"there is no {staff} in the staff directory"
    if context.token is not None:
        entry = directory.tokens.get(context.token.id)
        if entry is None or entry.token != context.token or entry.owner != staff:
            return f"{staff} has no API token {context.token.id} with these limits"
    return ""
