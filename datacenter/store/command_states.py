"""The states of a command and every transition between them.

A command is `delivered` when the instrument has acknowledged it, never earlier. Once the box has received it, the box
decides whether a withdrawal or the expiry precedes the execution: until then the command keeps its state, with the
requested end (column `ending`). A command that was never sent to the box ends immediately.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

State: TypeAlias = Literal[
    "waiting for approval", "queued", "delivered", "executing", "done", "failed", "expired", "withdrawn"
]
Event: TypeAlias = Literal["approved", "delivered", "executing", "done", "failed", "expired", "withdrawn"]
STATES: Final[tuple[State, ...]] = get_args(State)
EVENTS: Final[tuple[Event, ...]] = get_args(Event)

TRANSITIONS: Final[dict[Event, dict[State, State]]] = {
    "approved": {"waiting for approval": "queued"},
    "delivered": {"queued": "delivered"},
    "executing": {"queued": "executing", "delivered": "executing"},
    "done": {"queued": "done", "delivered": "done", "executing": "done"},
    "failed": {"queued": "failed", "delivered": "failed", "executing": "failed"},
    "expired": {"waiting for approval": "expired", "queued": "expired", "delivered": "expired"},
    "withdrawn": {"waiting for approval": "withdrawn", "queued": "withdrawn", "delivered": "withdrawn"},
}
"""For each event the state that follows. In a state that is not listed, the event changes nothing.

Reports can be lost when a spool is full; therefore a result may arrive without the steps before it.
"""
FINAL: Final[frozenset[State]] = frozenset({"done", "failed", "expired", "withdrawn"})
"""States without a transition to another one."""
SENT: Final[tuple[State, ...]] = ("queued", "delivered", "executing")
"""States in which the command is sent to the box repeatedly."""
WITHDRAWABLE: Final = frozenset(TRANSITIONS["withdrawn"])
"""States in which a command can be withdrawn."""


def after(state: State, event: Event) -> State:
    """Return the state after an event."""
    return TRANSITIONS[event].get(state, state)


def quoted(states: object) -> str:
    """Return states as a list for SQL, in the order of STATES."""
    assert isinstance(states, (dict, frozenset, tuple))
    return ", ".join(f"'{state}'" for state in STATES if state in states)
