"""Whether the access policies permit a session: at its request, before each step towards it, and while it is open."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from datacenter.access.compiled import CompiledPolicies
from datacenter.access.decision import Decision
from datacenter.access.request import AccessRequest, ApiToken, Principal, RequestContext, Resource
from datacenter.access.vocabulary import Purpose
from wire.session.grant import Offer, SessionMode

ACTIONS: Final = {SessionMode.VIEW: "view-session", SessionMode.CONTROL: "open-session"}
"""The action that a session in this mode requires."""
_TRAINING_POLICY: Final = "training-required"
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Requester:
    """The person who has requested a session, with instrument and purpose."""

    principal: Callable[[], Principal | None]
    """Returns the person with the rights at the time of the call; None if they may no longer sign in."""
    instrument: Resource
    purpose: Purpose
    token: ApiToken | None = None
    """The API token of the request."""


class SessionRights:
    """The rights of the people who have requested sessions."""

    def __init__(self, policies: Callable[[], CompiledPolicies], now_ms: Callable[[], int]) -> None:
        """`policies` returns the policies in force."""
        self._policies, self._now_ms = policies, now_ms
        self._requesters: dict[bytes, Requester] = {}

    def add(self, session: bytes, requester: Requester) -> None:
        """Record the person who requests a session; nobody else may use it."""
        self._requesters[session] = requester

    def forget(self, session: bytes) -> None:
        """Forget the requester of a session that has ended."""
        self._requesters.pop(session, None)

    def site_of(self, session: bytes) -> str:
        """Return the site of the instrument; empty if it is not known."""
        requester = self._requesters.get(session)
        return requester.instrument.site if requester else ""

    @property
    def tokens(self) -> set[str]:
        """The API tokens with which sessions were requested."""
        return {requester.token.id for requester in self._requesters.values() if requester.token}

    def revoke(self, tokens: Collection[str]) -> None:
        """Stop permitting sessions that were requested with these API tokens."""
        for session, requester in list(self._requesters.items()):
            if requester.token and requester.token.id in tokens:
                self.forget(session)

    def permits(self, offer: Offer) -> bool:
        """Return whether the policies permit a session now, apart from the training."""
        decision = self._decide(offer)
        if decision is None:
            return False
        is_untrained = decision.policy is not None and decision.policy.id == _TRAINING_POLICY
        return decision.permitted or is_untrained

    def has_training(self, offer: Offer) -> bool:
        """Return whether the person's training for the model is valid now."""
        decision = self._decide(offer)
        if decision is None:
            return False
        request = decision.request
        ends_ms = request.principal.trainings.get(request.resource.model, 0)
        is_untrained = decision.policy is not None and decision.policy.id == _TRAINING_POLICY
        return self._now_ms() < ends_ms and not is_untrained

    def _decide(self, offer: Offer) -> Decision | None:
        """Return the decision; None, which permits nothing, without a requester or after a program error."""
        try:
            return self._decided(offer)
        except Exception:
            _log.exception("whether session %s is permitted cannot be decided", offer.id.hex())
            return None

    def _decided(self, offer: Offer) -> Decision | None:
        requester = self._requesters.get(offer.id)
        principal = requester.principal() if requester else None
        if requester is None or principal is None or principal.id != offer.staff:
            return None
        context = RequestContext(self._now_ms(), requester.purpose, requester.token)
        request = AccessRequest(principal, ACTIONS[offer.mode], requester.instrument, context)
        return self._policies().decide(request)
