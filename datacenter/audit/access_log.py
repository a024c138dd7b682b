"""Records accesses of staff and programs to pages and API, before they are granted.

* Each refusal, change and export has a separate record. A request for a nonexistent resource is also a
  refusal: guessed names are recorded, and the response takes the same time as for a hidden resource.
* A permitted view of a resource is recorded once for each person and period (`view_ms`). The page of an instrument
  requests its charts, and its lists are read every 30 seconds: separate records would hide the others.
* A list is one record, with the page that was read instead of a resource. Its rows follow from the policies.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from datacenter.access.decision import Decision
from datacenter.access.request import Principal, RequestContext
from datacenter.access.vocabulary import EVERYWHERE
from datacenter.audit.chain import AuditEntry
from datacenter.audit.trail import entry_of

VIEW_MS: Final = 10 * 60_000
VIEWS_MAX: Final = 100_000
"""Maximum number of remembered views; beyond it, the oldest is forgotten and recorded again."""
VIEWS: Final = frozenset({"view", "view-staff", "view-policy", "read-audit"})
"""Actions that are recorded once per period."""
_Key: TypeAlias = tuple[str, str, str, str, str, str]
Append: TypeAlias = Callable[[Sequence[AuditEntry]], object]
"""Appends entries durably, or raises an exception."""


class AccessLog:
    """Records decisions, lists and sign-ins. Raises exceptions of `append`; then nothing may be shown."""

    def __init__(self, append: Append, view_ms: int = VIEW_MS) -> None:
        self._append, self._view_ms = append, view_ms
        self._lock = threading.Lock()
        self._viewed: OrderedDict[_Key, int] = OrderedDict()

    def decision(self, decision: Decision, *, is_export: bool = False) -> None:
        """Record a decision about a resource; an export is recorded each time, regardless of its action."""
        self._record(entry_of(decision), is_single=is_export)

    def listing(
        self,
        principal: Principal,
        context: RequestContext,
        action: str,
        path: str,
        *,
        is_export: bool = False,
    ) -> None:
        """Record that a list was read; `path` names it."""
        place = ", ".join(sorted(principal.scope - {EVERYWHERE}))
        token = context.token.id if context.token else ""
        reason = "the rows that the policies permit"
        entry = AuditEntry(
            context.now_ms,
            principal.id,
            token,
            action,
            "List",
            path,
            place,
            context.purpose,
            "permitted",
            "",
            reason,
        )
        self._record(entry, is_single=is_export)

    def sign_in(self, now_ms: int, staff: str, outcome: str, reason: str, *, action: str = "sign-in") -> None:
        """Record a sign-in, a sign-out, or an attempt; `outcome` is "permitted" or "refused"."""
        self._record(AuditEntry(now_ms, staff, "", action, "Session", "", "", "", outcome, "", reason))

    def _record(self, entry: AuditEntry, *, is_single: bool = False) -> None:
        if is_single or entry.outcome != "permitted" or entry.action not in VIEWS:
            self._append([entry])
            return
        key = (entry.actor, entry.token, entry.action, entry.kind, entry.resource, entry.place)
        with self._lock:
            before = self._viewed.get(key)
        if before is not None and 0 <= entry.at_ms - before < self._view_ms:
            return
        self._append([entry])
        with self._lock:
            self._viewed[key] = entry.at_ms
            self._viewed.move_to_end(key)
            while len(self._viewed) > VIEWS_MAX:
                self._viewed.popitem(last=False)
