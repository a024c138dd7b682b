"""The recorder of sessions: records of an end that could not be written are written later, and no others."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sim.net.loop import SimLoop
from tests.support.wire.grants import BOX, OFFER
from wire.session.audit import AuditOwner, SessionRecord, parse_audit
from wire.session.executor import Transition
from wire.session.log import SessionLog
from wire.session.recorder import RETRY_SECONDS, SessionRecorder
from wire.session.table import Actor, Cause, End, Event, SessionState

AUTHORIZED = Transition(OFFER.id, Event.AUTHORIZE, Actor.PERSON, SessionState.AUTHORIZED)
ENDING = Transition(OFFER.id, Event.PERSON_ENDS, Actor.PERSON, SessionState.ENDING, Cause.ENDED_BY_PERSON)
ENDED = Transition(OFFER.id, Event.CLOSED, Actor.BOX, SessionState.ENDED)


class FullLog(SessionLog):
    """A log on a disk that can be full."""

    is_full = False

    def append(self, record: SessionRecord) -> None:
        if self.is_full:
            raise OSError("the disk is full")
        super().append(record)


def run(folder: Path, act: Callable[[SessionRecorder, FullLog], Awaitable[None]]) -> list[SessionRecord]:
    """Call `act` in simulated time; return the records of the file."""
    loop, file = SimLoop(), folder / "audit"

    async def main() -> None:
        log = FullLog(file, AuditOwner(End.BOX, OFFER.box))
        with log:
            clock = lambda: int(loop.time() * 1e9)  # noqa: E731
            await act(SessionRecorder(log, BOX, "1", clock, clock, lambda _session, _head: None), log)

    loop.run_until_complete(main())
    assert not loop.failures
    return [line.record for line in parse_audit(file.read_bytes()).lines]


def test_an_end_is_recorded_when_the_disk_permits_it_with_the_time_of_the_end(tmp_path: Path) -> None:
    async def act(recorder: SessionRecorder, log: FullLog) -> None:
        log.is_full = True
        assert not await recorder.record(ENDING)
        await asyncio.sleep(1)
        assert not await recorder.record(ENDED)
        log.is_full = False
        await asyncio.sleep(2 * RETRY_SECONDS)

    ending, ended, head = run(tmp_path, act)
    assert (ending.event, ending.monotonic_ms) == (Event.PERSON_ENDS, 0)
    assert (ended.event, ended.monotonic_ms) == (Event.CLOSED, 1000)
    assert head.kind == "head"


def test_a_later_record_follows_the_pending_record_of_an_end(tmp_path: Path) -> None:
    async def act(recorder: SessionRecorder, log: FullLog) -> None:
        log.is_full = True
        await recorder.record(ENDING)
        log.is_full = False
        assert await recorder.record(ENDED)

    assert [record.state for record in run(tmp_path, act) if record.state] == ["ending", "ended"]


def test_while_the_record_of_an_end_is_pending_no_other_record_is_written(tmp_path: Path) -> None:
    async def act(recorder: SessionRecorder, log: FullLog) -> None:
        log.is_full = True
        await recorder.record(ENDING)
        assert not await recorder.record(AUTHORIZED)

    assert run(tmp_path, act) == []


def test_a_transition_towards_a_session_that_could_not_be_recorded_is_not_written_later(
    tmp_path: Path,
) -> None:
    async def act(recorder: SessionRecorder, log: FullLog) -> None:
        log.is_full = True
        assert not await recorder.record(AUTHORIZED)
        log.is_full = False
        await asyncio.sleep(3 * RETRY_SECONDS)

    assert run(tmp_path, act) == []


def test_the_times_of_a_file_do_not_decrease(tmp_path: Path) -> None:
    """A refusal is written later than a transition that was recorded after it in the same step of the loop."""
    ticks = itertools.count()

    async def main() -> None:
        with SessionLog(tmp_path / "audit", AuditOwner(End.BOX, OFFER.box)) as log:
            clock = lambda: 20_000_000 * next(ticks)  # noqa: E731
            recorder = SessionRecorder(log, BOX, "1", clock, clock, lambda _session, _head: None)
            recorder.refused(OFFER.id, "a message that does not apply")
            await recorder.record(AUTHORIZED)
            await asyncio.sleep(1)

    SimLoop().run_until_complete(main())
    records = [line.record for line in parse_audit((tmp_path / "audit").read_bytes()).lines]
    assert [record.kind for record in records] == ["transition", "refusal"]
    assert records[0].monotonic_ms < records[1].monotonic_ms


def test_a_closed_log_is_not_written(tmp_path: Path) -> None:
    log = SessionLog(tmp_path / "audit", AuditOwner(End.BOX, OFFER.box))
    log.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        log.append(SessionRecord(0, 0, "1", "transition"))
