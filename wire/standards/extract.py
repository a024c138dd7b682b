"""The content extracted from an instrument's message: findings, and counts of the content left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from wire.messages import Alert, CommandResult, Inventory, Quality, Status


class Reason(StrEnum):
    """The reason why content of a message was left out, or an irregularity; the box counts each by port."""

    PATIENT_RESULTS_DROPPED = "patient-results-dropped"
    """A message or order with results that are, or could be, a patient's."""
    QUERY_IGNORED = "query-ignored"
    """A query for orders, which only the laboratory's host can answer."""
    TEST_UNKNOWN = "test-unknown"
    """A test code without an assay in the site file."""
    CONTROL_UNKNOWN = "control-unknown"
    """A quality-control result of a control, or of an assay of a control, that is not in the site file."""
    ALARM_UNKNOWN = "alarm-unknown"
    """An alarm without a code in the site file."""
    VALUE_UNREADABLE = "value-unreadable"
    """A field that is not the number, time or word that the standard requires."""
    RESULT_NOT_FINAL = "result-not-final"
    """A quality-control result that is preliminary, pending, sent before or could not be obtained."""
    FRAME_REFUSED = "frame-refused"
    """A frame with a wrong checksum, number or form; the instrument was asked to repeat it."""
    FRAME_REPEATED = "frame-repeated"
    """A repetition of the frame accepted last."""
    MESSAGE_UNFINISHED = "message-unfinished"
    """A message whose end did not arrive."""
    MESSAGE_REFUSED = "message-refused"
    """A complete message that is not of the standard, or exceeds a limit."""
    MESSAGE_IGNORED = "message-ignored"
    """A valid message of a kind that the box does not use."""
    MESSAGE_REPEATED = "message-repeated"
    """A message whose reports were stored before."""
    NOT_STORED = "not-stored"
    """A message that could not be stored. The instrument was asked to repeat it; a message of an observed connection
    is lost, because the host has acknowledged it."""
    PASSED_UNREAD = "passed-unread"
    """A stretch of bytes of an observed connection that was relayed and not read, because the box was behind or its
    engine failed."""
    LITTER = "litter"
    """Bytes between messages, counted once for each uninterrupted sequence."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A report without its number; `at_ms` is the instrument's time in UTC, None if the message has none."""

    kind: type[Status | Inventory | Quality | Alert | CommandResult]
    fields: tuple[Any, ...]
    """The fields of `kind` after `number` and `at_ms`, in order."""
    at_ms: int | None = None


@dataclass(slots=True)
class Extract:
    """The findings of one message, in the message's order, and counts by reason."""

    findings: list[Finding] = field(default_factory=list)
    counts: Counter[Reason] = field(default_factory=Counter)
