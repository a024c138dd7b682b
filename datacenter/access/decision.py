"""The result of a decision, with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from datacenter.access.explain import explain_default, explain_forbid
from datacenter.access.language.policy import AccessPolicy, Applicable
from datacenter.access.request import AccessRequest


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request is permitted, and the policy that decided this; None if no policy applies."""

    request: AccessRequest
    permitted: bool
    policy: AccessPolicy | None
    applicable: Applicable | None
    """The policies for the action and the resource type; None if the action does not exist for it."""
    refusal: str = ""
    """The reason if the request was refused before any policy was evaluated."""

    @property
    def reason(self) -> str:
        """The reason in words: the policy that permits or forbids, or the missing condition."""
        if self.refusal:
            return self.refusal
        if self.applicable is None:
            return f"there is no action {self.request.action} for a resource of type {self.request.resource.kind}"
        if self.policy is None:
            return explain_default(self.request, self.applicable)
        if self.permitted:
            return f"permitted by policy {self.policy.id}"
        return explain_forbid(self.request, self.policy)
