"""An alert with its evidence, and the trigger that raised it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import select

from datacenter.evaluation.alerts import AlertEvidence, SilenceEvidence
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts
from datacenter.triggers.syntax import ConditionError
from datacenter.triggers.triggerfile import Trigger, TriggerTable, make_trigger
from settings.profile import Severity, profile_problem

_A: Final = alerts.c
_DECODERS: Final[tuple[Callable[[bytes], AlertEvidence | SilenceEvidence], ...]] = (
    msgspec.msgpack.Decoder(AlertEvidence).decode,
    msgspec.msgpack.Decoder(SilenceEvidence).decode,
)


class UnexplainedError(ValueError):
    """An alert cannot be recomputed; the message says why, and suggests a remedy."""


class AlertRecord(NamedTuple):
    """The stored data of an alert."""

    id: str
    box: str
    instrument: str
    model: str
    trigger: str
    trigger_hash: str
    severity: Severity
    component: str
    run: int
    number: int
    began_at_ms: int
    raised_at_ms: int
    ended_at_ms: int | None
    end_run: int | None
    end_number: int | None
    resolved_at_ms: int | None
    text: str | None
    parts: str | None
    evidence: bytes


def read_record(store: Store, alert: str) -> AlertRecord | None:
    """Return an alert, None if there is none. Raises: StoreError."""
    columns = [_A[name] for name in AlertRecord._fields]
    row = next(store.read(select(*columns).where(_A.id == alert)), None)
    return None if row is None else AlertRecord(*row)


def evidence_of(record: AlertRecord) -> AlertEvidence | SilenceEvidence:
    """Return the evidence of an alert. Raises: UnexplainedError."""
    for decode in _DECODERS:
        with suppress(msgspec.DecodeError):
            return decode(record.evidence)
    raise UnexplainedError(f"the evidence of alert {record.id} cannot be decoded by this version")


def trigger_of(record: AlertRecord, evidence: AlertEvidence, in_force: TriggerSet) -> Trigger:
    """Return the trigger that raised an alert: with the text in its evidence, or else the one that is in force.

    Raises: UnexplainedError if neither has the hash of the evidence.
    """
    current = in_force.triggers.get(record.trigger)
    if evidence.until is not None:
        stored = _stored_trigger(record, evidence)
        if stored is not None and stored.fingerprint == evidence.fingerprint == record.trigger_hash:
            return stored
        raise UnexplainedError(
            f"the text of the trigger in alert {record.id} does not have the hash {record.trigger_hash}, with which "
            f"it was raised: the alert was changed in the database, or this version lacks words of {record.model}"
        )
    if current is None:
        raise UnexplainedError(
            f"there is no trigger {record.trigger} in force, and alert {record.id}, of an earlier version, lacks its "
            f"text; put the file with the hash {record.trigger_hash} into the folder of triggers"
        )
    if current.fingerprint != record.trigger_hash:
        raise UnexplainedError(
            f"the trigger {record.trigger} in force has the hash {current.fingerprint}, but alert {record.id} was "
            f"raised by a text with the hash {record.trigger_hash}; put that file into the folder of triggers"
        )
    return current


def _stored_trigger(record: AlertRecord, evidence: AlertEvidence) -> Trigger | None:
    """Return the trigger of the stored text; None if this version cannot read it."""
    if profile_problem(record.model):
        return None
    table = TriggerTable(
        record.model,
        record.severity,
        record.component,
        record.text or record.trigger,
        evidence.condition,
        evidence.lasts,
        evidence.until or "",
        (record.parts or "").splitlines(),
    )
    try:
        return make_trigger(record.trigger, table)
    except ConditionError:
        return None
