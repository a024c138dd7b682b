"""Alerts with notices in a store, and a receiver that stands for the targets."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import insert, select, update

from datacenter.notices.notice import Notice
from datacenter.notices.outbox import AttemptOutcome, AttemptResult
from datacenter.notices.targets import NoticeTarget
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, deliveries, notices

CHAT = NoticeTarget(name="chat", apprise="json://127.0.0.1:9", interval_s=0)
"""A target that does not recognize repetitions."""
TICKETS = NoticeTarget(name="tickets", apprise="json://127.0.0.1:9", interval_s=0, repeats=True)
"""A target that recognizes repetitions."""
EVIDENCE = {"run": 1, "number": 7, "terms": {"ewma(lamp-intensity-pct, 64)": 69.5, "state": None}}


def raise_alert(store: Store, alert: str, now_ms: int = 0, *, severity: str = "warning") -> None:
    """Store an alert and its notice, as the evaluator does."""
    values = {
        "id": alert,
        "box": "RAP-0001",
        "instrument": "CHEM-0001",
        "model": "chemistry-analyzer",
        "trigger": "lamp",
        "trigger_hash": "0" * 16,
        "severity": severity,
        "component": "lamp",
        "run": 1,
        "number": 7,
        "began_at_ms": now_ms,
        "raised_at_ms": now_ms,
        "evidence": msgspec.msgpack.encode(EVIDENCE),
        "text": "The photometer lamp will fail soon",
        "parts": "Halogen lamp",
    }
    with store.transaction() as connection:
        connection.execute(insert(alerts).values(values))
        connection.execute(insert(notices).values(alert=alert, kind="raised", created_at_ms=now_ms))


def resolve_alert(store: Store, alert: str, now_ms: int = 0) -> None:
    """Store the end of an alert and its notice."""
    with store.transaction() as connection:
        connection.execute(update(alerts).where(alerts.c.id == alert).values(ended_at_ms=now_ms))
        connection.execute(insert(notices).values(alert=alert, kind="resolved", created_at_ms=now_ms))


def states(store: Store) -> dict[tuple[str, str], str]:
    """Return the state of each delivery by target and notice (alert:kind)."""
    d = deliveries.c
    rows = store.read(select(d.target, d.alert, d.kind, d.state))
    return {(target, f"{alert}:{kind}"): state for target, alert, kind, state in rows}


class Receiver:
    """Stands for all targets: records the messages; the first sends have the given outcomes, later ones succeed."""

    def __init__(self, *outcomes: AttemptOutcome) -> None:
        self.outcomes = list(outcomes)
        self.messages = list[tuple[str, list[str]]]()

    @property
    def received(self) -> list[tuple[str, str]]:
        """The target and the key of each notice, in the order of arrival."""
        return [(target, key) for target, keys in self.messages for key in keys]

    async def send(self, target: NoticeTarget, due: Sequence[Notice], now_ms: int) -> AttemptOutcome:
        """Receive a message."""
        outcome = self.outcomes.pop(0) if self.outcomes else AttemptOutcome(AttemptResult.SENT)
        if outcome.result is AttemptResult.SENT:
            self.messages.append((target.name, [one.key for one in due]))
        return outcome


class SetClock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now_ms = 1_790_000_000_000

    def __call__(self) -> int:
        return self.now_ms
