"""The states of a rollout and of a box in it, and every transition between them.

Silence is a failure until the box reports more.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from datacenter.store.update_steps import LAST_RANK_MIN, RANKS
from wire.messages import UpdateWord

RolloutState: TypeAlias = Literal["proposed", "running", "paused", "stopped", "withdrawn", "done"]
RolloutEvent: TypeAlias = Literal["start", "pause", "resume", "stop", "withdraw", "finish"]

TRANSITIONS: Final[dict[RolloutEvent, dict[RolloutState, RolloutState]]] = {
    "start": {"proposed": "running"},
    "pause": {"running": "paused"},
    "resume": {"paused": "running"},
    "stop": {"running": "stopped", "paused": "stopped"},
    "withdraw": {"proposed": "withdrawn", "running": "withdrawn", "paused": "withdrawn"},
    "finish": {"running": "done"},
}
"""For each event the state that follows. In a state that is not listed, the event is refused.

`start` is caused by a second person, `stop` and `finish` by the data center. A paused rollout issues no further
orders; its boxes continue, and stop it if they fail. A stopped or withdrawn rollout cancels the orders that have not
ended. It cannot be resumed: a new rollout needs a new approval.
"""
CANCELS_ORDERS: Final[frozenset[RolloutState]] = frozenset({"stopped", "withdrawn"})
"""States whose orders are cancelled."""

BoxState: TypeAlias = Literal["waiting", "present", "ordered", "silent"] | UpdateWord | Literal["withdrawn"]
Ending: TypeAlias = Literal["silent", "withdrawn", "present"]
"""The data center's reasons for ending an order: no response, withdrawn, or not necessary."""

FAILURES: Final[frozenset[BoxState]] = frozenset({"refused", "failed", "returned", "silent"})
ENDED: Final[frozenset[BoxState]] = FAILURES | {"committed", "withdrawn", "present"}


class RolloutEventError(Exception):
    """The state of the rollout does not permit the event. The message names the state."""


class RolloutProgress(NamedTuple):
    """The state of a box in a rollout."""

    is_ordered: bool
    step: UpdateWord | None = None
    ending: Ending | None = None

    @property
    def state(self) -> BoxState:
        """The state that follows."""
        if self.ending == "present":
            return "present"
        if not self.is_ordered:
            return "withdrawn" if self.ending == "withdrawn" else "waiting"
        if self.ending == "withdrawn" and self.step not in ("committed", "returned"):
            return "withdrawn"  # the box may report a failure: it was ordered to stop
        if self.step is not None and RANKS[self.step] >= LAST_RANK_MIN:
            return self.step
        return self.ending or self.step or "ordered"


def after(state: RolloutState, event: RolloutEvent) -> RolloutState:
    """Return the state after an event. Raises: RolloutEventError."""
    following = TRANSITIONS[event].get(state)
    if following is None:
        possible = " or ".join(TRANSITIONS[event])
        raise RolloutEventError(f"the rollout is {state}; {event} is possible while it is {possible}")
    return following
