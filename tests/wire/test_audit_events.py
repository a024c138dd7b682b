"""The enum of audit events is complete: it contains each event that the code composes, with an explanation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import get_args

import pytest

from agents.box.uplink.stream import StreamEnd
from agents.box.uplink.trust import DistrustReason
from agents.spool import Priority, SpoolErrorKind
from hal.crypto import FipsCheck
from netfw.ruleset.names import CAUSES
from tests.support.paths import ROOT
from tools.audit_reference import describe
from wire.audit_events import AuditEvent
from wire.dial.proxy import ProxyErrorKind
from wire.messages import Audit, Entry, Outcome, decode, encode
from wire.standards.extract import Reason

SOURCES = [
    path
    for folder in ("agents/box", "agents/enrolment", "wire", "hal", "rap")
    for path in (ROOT / folder).rglob("*.py")
]


def first_arguments(*functions: str) -> Iterator[str]:
    """Yield the literal first argument of each call of these functions in modules that run on a box."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).split(".")[-1] in functions
                and node.args
            ):
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value


def composed_events() -> Iterator[str]:
    yield from (f"proxy-{kind}" for kind in ProxyErrorKind)
    yield from (f"far-end-{kind}" for kind in (*DistrustReason, StreamEnd.REFUSED, StreamEnd("nonsense")))
    yield from (f"spool-{kind}" for kind in SpoolErrorKind)
    yield from (f"refused-{cause}" for cause in CAUSES)
    yield from (f"command-{outcome}" for outcome in get_args(Outcome))
    yield from Reason
    yield from (f"backlog-{priority.name.lower()}" for priority in Priority)
    yield from (f"fips-failed-{check}" for check in FipsCheck)
    yield from (f"part-failed-{part}" for part in first_arguments("_supervise"))
    yield from (f"{bound}-{side}-limit" for bound in first_arguments("Bound") for side in ("near", "below"))


def test_every_event_that_a_box_composes_is_in_the_enum() -> None:
    events = set(composed_events())
    assert {"part-failed-forwarder", "crl-age-near-limit", "proxy-timeout", "refused-crowded"} <= events
    assert events <= set(AuditEvent)


def test_every_event_is_recorded_by_some_code() -> None:
    text = "".join(path.read_text("utf-8") for path in SOURCES if path.name != "audit_events.py")
    named = {AuditEvent[name] for name in re.findall(r"AuditEvent\.([A-Z_]+)", text)}
    assert set(AuditEvent) == named | set(composed_events())


def test_no_event_is_recorded_by_a_string_literal() -> None:
    assert not set(first_arguments("note", "_note", "record"))


@pytest.mark.parametrize("event", AuditEvent)
def test_each_event_is_documented_and_keeps_its_wire_value(event: AuditEvent) -> None:
    description, _, action = describe(event)
    assert description.endswith(".") and action.endswith(".")
    sent = encode(Entry("", 0, Audit(1, event, 0, 7)))
    assert sent == encode(Entry("", 0, Audit(1, str(event.value), 0, 7)))
    assert decode(Entry, sent).body == Audit(1, str(event.value), 0, 7)


def test_an_event_of_another_version_is_accepted() -> None:
    sent = encode(Entry("", 0, Audit(1, "event-of-a-later-version", 0, 7)))
    assert decode(Entry, sent).body == Audit(1, "event-of-a-later-version", 0, 7)
