"""Approval of dangerous changes by a second person.

A change is described completely, with the hash of its content, when it is requested. Another person who has
the right to approve it approves exactly this description, for a limited time. When it is carried out, everything is
checked again: the description, both persons' rights at that moment, and the expiry.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Final

from datacenter.access.control import AccessDecider
from datacenter.access.decision import Decision
from datacenter.access.request import Approval, RequestContext, Resource
from datacenter.access.vocabulary import Purpose

APPROVAL_MS: Final = 24 * 3_600_000
"""Validity of an approval."""
REQUEST_MS: Final = 7 * 24 * 3_600_000
"""Time for which a request can be approved."""


class NotApproved(Exception):
    """The change must not be carried out. The message says what is missing."""


@dataclass(frozen=True)
class PendingChange:
    """A requested change. `content_sha256` is the hash of its content, for example of the file to send."""

    id: str
    requester: str
    action: str
    resource: Resource
    purpose: Purpose
    content_sha256: str
    requested_ms: int

    @property
    def digest(self) -> str:
        """The hash of all fields."""
        fields = json.dumps(asdict(self), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(fields.encode()).hexdigest()

    @property
    def as_resource(self) -> Resource:
        """The change as the resource of the action `approve`, at the location of the changed resource."""
        own = self.resource
        places = {"site": own.site, "country": own.country, "region": own.region, "model": own.model}
        return Resource("ChangeRequest", self.id, **places, requester=self.requester, change=self.action)


@dataclass(frozen=True)
class ChangeApproval:
    """The approval of the change with this digest."""

    change_sha256: str
    by: str
    purpose: Purpose
    at_ms: int

    @property
    def expires_ms(self) -> int:
        """The first moment at which the approval is not valid."""
        return self.at_ms + APPROVAL_MS


def approve(access: AccessDecider, change: PendingChange, by: str, context: RequestContext) -> ChangeApproval:
    """Approve a change; the decision is recorded. Raises: NotApproved."""
    if not change.requested_ms <= context.now_ms < change.requested_ms + REQUEST_MS:
        raise NotApproved(
            f"change {change.id} can be approved for 7 days after it was requested; request it again"
        )
    decision = access.decide(by, "approve", change.as_resource, context)
    if not decision.permitted:
        raise NotApproved(decision.reason)
    return ChangeApproval(change.digest, by, context.purpose, context.now_ms)


def decide_change(
    access: AccessDecider, change: PendingChange, approval: ChangeApproval | None, now_ms: int
) -> Decision:
    """Decide whether the requester may carry out a change now, and record it. Dangerous changes need `approval`.

    Raises: NotApproved if the approval does not apply, or its author has lost the right to approve.
    """
    context = RequestContext(now_ms, change.purpose)
    if approval is not None:
        _check(access, change, approval, now_ms)
        context = replace(context, approval=Approval(approval.by, approval.expires_ms))
    return access.decide(change.requester, change.action, change.resource, context)


def _check(access: AccessDecider, change: PendingChange, approval: ChangeApproval, now_ms: int) -> None:
    if approval.change_sha256 != change.digest:
        raise NotApproved(
            f"the approval by {approval.by} is for another change, or for other content; request a new approval"
        )
    if approval.by == change.requester:
        raise NotApproved("nobody approves a change that they requested")
    if not change.requested_ms <= approval.at_ms <= now_ms < approval.expires_ms:
        raise NotApproved(f"the approval by {approval.by} is not valid at this time; request a new approval")
    still = access.peek(approval.by, "approve", change.as_resource, RequestContext(now_ms, approval.purpose))
    if not still.permitted:
        raise NotApproved(f"{approval.by} no longer has the right to approve: {still.reason}")
