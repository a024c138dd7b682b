"""Both ends of sessions together: how sessions open and end, and what their audit files prove."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from datacenter.sessions.session import REPEAT_SECONDS
from tests.support.sessions.ends import DELAY_SECONDS, SessionEnds, run
from tests.support.wire.grants import BOX, EVIDENCE, OFFER, STRANGER
from wire.session.audit import SessionRecord
from wire.session.grant import countersign_offer
from wire.session.messages import EndMessage, GrantMessage
from wire.session.table import Cause, End, SessionState
from wire.session.verify import AuditVerdict

PORT = OFFER.port


def assert_proven(verdict: AuditVerdict, sessions: int = 1) -> None:
    problems = [*verdict.problems, *(problem for each in verdict.sessions for problem in each.problems)]
    assert problems == []
    assert len(verdict.sessions) == sessions


def test_a_session_that_a_person_permits_opens_and_its_audit_files_prove_it(tmp_path: Path) -> None:
    async def act(ends: SessionEnds) -> None:
        session = await ends.open()
        await asyncio.sleep(10)
        await ends.box.end(session.id, PORT)
        assert not ends.passes
        await asyncio.sleep(2)
        assert session.state is SessionState.ENDED
        # the end of the tunnel and the message about it arrive in any order
        assert session.cause in (Cause.LINE_LOST, Cause.PEER_ENDED)
        assert ends.at_box.cause is session.shown_cause is Cause.ENDED_BY_PERSON

    verdict = run(tmp_path, act)
    assert_proven(verdict)
    (proof,) = verdict.sessions
    assert 10_000 <= proof.tunnel_ms <= 12_000
    assert proof.causes == ("ended by the person",)


def test_staff_end_a_session(tmp_path: Path) -> None:
    async def act(ends: SessionEnds) -> None:
        session = await ends.open()
        await ends.desk.end(session.id)
        assert not ends.passes
        await asyncio.sleep(2)
        assert (ends.at_box.state, session.state) == (SessionState.ENDED, SessionState.ENDED)
        assert ends.at_box.shown_cause is session.cause is Cause.ENDED_BY_STAFF

    assert_proven(run(tmp_path, act))


@pytest.mark.parametrize(
    ("right", "cause"), [("is_permitted", Cause.WITHDRAWN), ("has_training", Cause.TRAINING_EXPIRED)]
)
@pytest.mark.parametrize("state", ["offered", "open"])
def test_a_right_that_is_lost_ends_the_session(tmp_path: Path, right: str, cause: Cause, state: str) -> None:
    """One known product leaves sessions open after their approval was deleted."""

    async def act(ends: SessionEnds) -> None:
        session = await (ends.open() if state == "open" else ends.request())
        setattr(ends, right, False)
        await ends.desk.check_permissions()
        assert not ends.passes
        await asyncio.sleep(2)
        assert session.cause is cause
        assert ends.at_box.state is SessionState.ENDED
        assert not await ends.box.enter_code(session.id, PORT, session.code)

    assert_proven(run(tmp_path, act))


@pytest.mark.parametrize("right", ["is_permitted", "has_training"])
def test_a_request_without_the_right_is_not_offered(tmp_path: Path, right: str) -> None:
    async def act(ends: SessionEnds) -> None:
        setattr(ends, right, False)
        session = await ends.request()
        assert session.state is SessionState.NEW
        assert not ends.box.at_port(PORT)

    assert_proven(run(tmp_path, act), sessions=0)


def test_a_right_that_is_lost_between_consent_and_tunnel_opens_nothing(tmp_path: Path) -> None:
    async def act(ends: SessionEnds) -> None:
        session = await ends.request()
        assert await ends.box.enter_code(session.id, PORT, session.code)
        ends.is_permitted = False
        await asyncio.sleep(20 * DELAY_SECONDS)
        assert not ends.passes
        assert not any(endpoint.is_started for endpoint in ends.endpoints)

    assert_proven(run(tmp_path, act))


def test_without_a_writable_recording_no_session_opens_and_an_open_one_ends(tmp_path: Path) -> None:
    """One known product lets sessions continue while its disk is full."""

    async def act(ends: SessionEnds) -> None:
        ends.can_record = False
        session = await ends.request()
        assert await ends.box.enter_code(session.id, PORT, session.code)
        await asyncio.sleep(20 * DELAY_SECONDS)
        assert not ends.passes
        assert session.state is SessionState.ENDED
        ends.can_record = True
        session = await ends.open()
        await session.recording_failed()
        assert not ends.passes
        await asyncio.sleep(2)
        assert session.cause is Cause.RECORDING_FAILED

    assert_proven(run(tmp_path, act), sessions=2)


@pytest.mark.parametrize("writes", range(12))
def test_a_full_disk_at_any_write_of_the_audit_file_leaves_no_tunnel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """One known product continues with a full disk, and does not record the end of sessions."""

    async def act(ends: SessionEnds) -> None:
        log, written = ends.logs[End.DATA_CENTER], list[SessionRecord]()
        append = log.append

        def append_until_full(record: SessionRecord) -> None:
            if len(written) == writes:
                raise OSError(errno.ENOSPC, "No space left on device")
            append(record)
            written.append(record)

        monkeypatch.setattr(log, "append", append_until_full)
        session = await ends.request()
        await ends.box.enter_code(session.id, PORT, session.code)
        await asyncio.sleep(20 * DELAY_SECONDS)
        has_opened = any(record.state == SessionState.OPEN for record in written)
        assert has_opened or not ends.passes
        await ends.desk.end(session.id)
        await asyncio.sleep(20 * DELAY_SECONDS)
        assert not ends.passes
        assert session.state in (SessionState.NEW, SessionState.ENDED)
        assert all(one.state is SessionState.ENDED for one in ends.box.at_port(PORT))

    run(tmp_path, act)


def test_an_offer_is_repeated_until_the_box_shows_it(tmp_path: Path) -> None:
    async def act(ends: SessionEnds) -> None:
        ends.is_line_up = False
        session = await ends.request()
        ends.is_line_up = True
        sent = len(ends.to_box)
        assert (session.state, sent) == (SessionState.REQUESTED, 1)
        ends.desk.repeat_messages(OFFER.box)
        assert len(ends.to_box) == sent
        await asyncio.sleep(REPEAT_SECONDS)
        ends.desk.repeat_messages(OFFER.box)
        ends.desk.repeat_messages(OFFER.box)
        assert len(ends.to_box) == sent + 1
        await asyncio.sleep(3 * DELAY_SECONDS)
        assert session.state is SessionState.OFFERED

    assert_proven(run(tmp_path, act))


def test_a_certificate_is_repeated_until_the_box_opens_the_tunnel(tmp_path: Path) -> None:
    async def act(ends: SessionEnds) -> None:
        session = await ends.request()
        assert await ends.box.enter_code(session.id, PORT, session.code)
        await asyncio.sleep(1.5 * DELAY_SECONDS)
        ends.is_line_up = False
        await asyncio.sleep(REPEAT_SECONDS)
        assert (session.state, ends.at_box.state) == (SessionState.OPENING, SessionState.AUTHORIZED)
        ends.is_line_up = True
        ends.desk.repeat_messages(OFFER.box)
        await asyncio.sleep(10 * DELAY_SECONDS)
        assert ends.passes

    assert_proven(run(tmp_path, act))


def test_a_box_that_missed_the_end_is_informed_again(tmp_path: Path) -> None:
    async def act(ends: SessionEnds) -> None:
        session = await ends.request()
        ends.is_line_up = False
        await ends.desk.end(session.id)
        await asyncio.sleep(1)
        ends.is_line_up = True
        assert await ends.box.enter_code(session.id, PORT, session.code)
        await asyncio.sleep(10 * DELAY_SECONDS)
        assert ends.at_box.cause is Cause.PEER_ENDED

    run(tmp_path, act)


def test_a_tunnel_that_the_data_center_loses_ends_at_both_ends(tmp_path: Path) -> None:
    async def act(ends: SessionEnds) -> None:
        session = await ends.open()
        ends.is_line_up = False
        ends.endpoints[0].lose()
        await asyncio.sleep(2)
        assert (session.cause, ends.at_box.cause) == (Cause.LINE_LOST, Cause.LINE_LOST)
        assert not ends.path.elements()

    assert_proven(run(tmp_path, act))


def test_messages_of_another_box_change_nothing(tmp_path: Path) -> None:
    async def act(ends: SessionEnds) -> None:
        session = await ends.open()
        for message in (*ends.from_box, EndMessage(session.id, "refused")):
            await ends.desk.receive("RAP-0002", message)
        assert session.state is SessionState.OPEN

    assert_proven(run(tmp_path, act))


def test_repeated_messages_change_nothing(tmp_path: Path) -> None:
    async def act(ends: SessionEnds) -> None:
        session = await ends.open()
        for message in list(ends.from_box):
            await ends.desk.receive(OFFER.box, message)
        for order in list(ends.to_box):
            await ends.box.receive(order)
        await asyncio.sleep(2)
        assert ends.passes
        assert sum(endpoint.is_started for endpoint in ends.endpoints) == 1
        assert session.state is SessionState.OPEN

    assert_proven(run(tmp_path, act))


def test_two_sessions_with_one_instrument_are_never_open_at_once(tmp_path: Path) -> None:
    async def act(ends: SessionEnds) -> None:
        first = await ends.request()
        second = await ends.request()
        for session in (first, second):
            await ends.box.enter_code(session.id, PORT, session.code)
        await asyncio.sleep(20 * DELAY_SECONDS)
        assert sum(endpoint.is_started for endpoint in ends.endpoints) == 1

    assert_proven(run(tmp_path, act), sessions=2)


def test_a_grant_of_another_offer_opens_nothing(tmp_path: Path) -> None:
    async def act(ends: SessionEnds) -> None:
        first, second = await ends.request(), await ends.request()
        ends.is_line_up = False
        await ends.box.enter_code(first.id, PORT, first.code)
        grant = next(each for each in ends.from_box if isinstance(each, GrantMessage))
        await ends.desk.receive(OFFER.box, GrantMessage(second.id, grant.grant))
        assert second.state is SessionState.OFFERED

    run(tmp_path, act)


def test_a_second_grant_does_not_replace_the_first_one(tmp_path: Path) -> None:
    async def act(ends: SessionEnds) -> None:
        session = await ends.open()
        grant = session.grant
        other = countersign_offer(session.signed, EVIDENCE, STRANGER.public_key(), BOX)
        await ends.desk.receive(OFFER.box, GrantMessage(session.id, other))
        assert session.grant is grant

    assert_proven(run(tmp_path, act))


def test_staff_end_a_session_while_the_box_cannot_be_reached(tmp_path: Path) -> None:
    async def act(ends: SessionEnds) -> None:
        session = await ends.open()
        ends.is_line_up = False
        await ends.desk.end(session.id)
        await asyncio.sleep(2)
        assert (ends.at_box.state, ends.at_box.cause) == (SessionState.ENDED, Cause.LINE_LOST)

    assert_proven(run(tmp_path, act))


@pytest.mark.parametrize("end", End)
def test_a_tail_cut_off_one_audit_file_is_found_by_means_of_the_other_file(tmp_path: Path, end: End) -> None:
    ends_of_run: list[SessionEnds] = []

    async def act(ends: SessionEnds) -> None:
        ends_of_run.append(ends)
        await ends.open()

    assert_proven(run(tmp_path, act))
    file = tmp_path / end.value
    lines = file.read_bytes().splitlines(keepends=True)
    ended = next(number for number, line in enumerate(lines) if b'"state":"ending"' in line)
    file.write_bytes(b"".join(lines[: ended + 1]))
    assert any("missing" in problem for problem in ends_of_run[0].verdict().problems)


def test_a_record_that_cannot_be_written_is_not_durable(tmp_path: Path) -> None:
    async def act(ends: SessionEnds) -> None:
        session = await ends.request()
        ends.logs[End.BOX].close()
        assert not await ends.box.enter_code(session.id, PORT, session.code)
        await asyncio.sleep(2)
        assert ends.at_box.cause is Cause.AUDIT_FAILED

    run(tmp_path, act)
