"""The audit events and the status of content that was left out."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agents.box.intake.counts import RECORD_SECONDS, port_status, record_counts
from agents.box.intake.intake import Source
from rap.box import print_port
from sim.net.loop import SimLoop
from wire.audit_events import AuditEvent
from wire.standards.extract import Reason


def source(**counts: int) -> Source:
    values: dict[str, Any] = {"counts": {Reason[name.upper()]: number for name, number in counts.items()}}
    profile = SimpleNamespace(speaks="hl7")
    common = {"serial": "MODU-1", "port": 2, "is_connected": True, "last_byte_s": 3.0, "accepted": 7}
    common |= {"role": "pass-through", "message_at": 1.5}
    return cast(Source, SimpleNamespace(**common, **values, allowed=SimpleNamespace(profile=profile)))


def test_new_counts_are_recorded_periodically_with_their_difference() -> None:
    recorded: list[tuple[str, int, int]] = []

    def note(event: AuditEvent, value: int = 0, *, port: int) -> None:
        recorded.append((event.value, value, port))

    async def main() -> None:
        instrument = source(test_unknown=3)
        task = asyncio.ensure_future(record_counts([instrument], note))
        await asyncio.sleep(1.5 * RECORD_SECONDS)
        instrument.counts[Reason.TEST_UNKNOWN] = 5
        await asyncio.sleep(2 * RECORD_SECONDS)
        task.cancel()

    SimLoop().run_until_complete(main())
    assert recorded == [("test-unknown", 3, 2), ("test-unknown", 2, 2)]


def test_the_status_of_a_port_has_the_time_since_its_last_byte_and_the_counts() -> None:
    status = port_status(source(frame_repeated=2, litter=0), now=10.0)
    assert (status.silent_s, status.message_s, status.role) == (7.0, 8.5, "pass-through")
    assert (status.accepted, status.left_out) == (7, {"frame-repeated": 2})


def test_the_command_prints_each_port(capsys: pytest.CaptureFixture[str]) -> None:
    status = port_status(source(patient_results_dropped=1204), now=1500.0)
    print_port(status)
    assert capsys.readouterr().out.splitlines() == [
        "port 2       MODU-1, hl7, pass-through: connected, last byte 1,497 s ago",
        "             7 reports accepted, the last message 1,498 s ago",
        "             patient results dropped: 1,204",
    ]
