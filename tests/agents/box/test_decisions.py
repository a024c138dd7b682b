"""The box's decisions without I/O: back-off, batch sizes and scheduling, high-water marks, rates, queues."""

from __future__ import annotations

from math import inf
from random import Random
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from agents.box.audit.log_cursor import FILE_ID_BYTES, FILES_MAX, PIECE_BYTES_MAX, SYSTEM
from agents.box.commands import FINISHED_MAX, REPEAT_SECONDS, WAITING_MAX, CommandQueue
from agents.box.configuration.defaults import INSTRUMENTS_MAX
from agents.box.intake.high_water_marks import (
    DIGEST_BYTES,
    DIGESTS_MAX,
    HOLES_MAX,
    HighWaterMark,
    digest_of,
)
from agents.box.state import SNAPSHOT_BYTES_MAX, BoxState
from agents.box.uplink.batching import (
    OVERHEAD_BYTES,
    RECORDS_MIN,
    ROUTINE_IN_FLIGHT_MAX,
    ROUTINE_IN_FLIGHT_MIN,
    ROUTINE_WORTH_A_BATCH,
    LinkEstimator,
    SendScheduler,
    Timing,
)
from agents.instrument.report_queue import ReportQueue
from agents.spool import Priority, RecoveredSpool, SpoolLimits
from wire.dial import backoff
from wire.dial.backoff import (
    DELAY_SECONDS_MAX,
    DELAY_SECONDS_MIN,
    RETRY_AFTER_SECONDS_MAX,
    Backoff,
    retry_after,
)
from wire.messages import (
    INT_MAX,
    RECORDS_PER_BATCH_MAX,
    REPORTS_PER_POST_MAX,
    Alert,
    Command,
    CommandResult,
    InstrumentReport,
    Quality,
)
from wire.process.ratelimit import TokenBucket


def routine(number: int) -> InstrumentReport:
    return Quality(number, 0, "glu", 1, 0)


def alert(number: int) -> InstrumentReport:
    return Alert(number, 0, "L0100", "lamp", "error")


# -- back-off -------------------------------------------------------------------------------------------


def test_retry_delays_are_randomized_bounded_and_grow() -> None:
    trials = [Backoff(Random(seed)) for seed in range(200)]
    delays = [[trial.failed() for _ in range(12)] for trial in trials]
    assert all(DELAY_SECONDS_MIN <= delay <= DELAY_SECONDS_MAX for trial in delays for delay in trial)
    means = [sum(column) / len(trials) for column in zip(*delays, strict=True)]
    assert means[0] < 1 < means[3] < means[6]
    assert len({round(trial[-1], 3) for trial in delays}) > 150


def test_success_resets_the_delay_and_retry_after_is_respected_within_bounds() -> None:
    trial = Backoff(Random(1))
    for _ in range(20):
        trial.failed()
    trial.succeeded()
    assert trial.failed() <= backoff.DELAY_SECONDS_FIRST
    assert trial.failed(30) >= 30
    assert trial.failed(1e9) <= RETRY_AFTER_SECONDS_MAX + DELAY_SECONDS_MAX


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17", 17),
        ("", 0),
        ("-1", 0),
        ("1.5", 0),
        ("Wed, 21 Oct", 0),
        ("²", 0),
        ("Mon, 01 Jan 2024 00:02:00 GMT", 120),
        ("Monday, 01-Jan-24 00:02:00 GMT", 120),
        ("Mon Jan  1 00:02:00 2024", 120),
        ("Sun, 31 Dec 2023 23:59:00 GMT", 0),
        ("9" * 400, inf),
    ],
)
@pytest.mark.parametrize("is_clock_right", [True, False])
def test_retry_after(value: str, seconds: float, is_clock_right: bool) -> None:
    """A date is relative to the `Date` of the response, or to the local clock if there is none."""
    midnight_s = 1_704_067_200.0
    headers = {"retry-after": value, "date": "Mon, 01 Jan 2024 00:00:00 GMT"}
    if is_clock_right:
        del headers["date"]
    assert retry_after(headers, midnight_s if is_clock_right else 0.0) == seconds


def test_retry_after_of_any_length_is_respected_up_to_the_bound() -> None:
    for value in ("9" * 400, "86400", "Fri, 31 Dec 9999 23:59:59 GMT"):
        wait = Backoff(Random(1)).failed(retry_after({"retry-after": value}, 0.0))
        assert RETRY_AFTER_SECONDS_MAX < wait <= RETRY_AFTER_SECONDS_MAX + DELAY_SECONDS_MAX


# -- batch sizes, scheduling ------------------------------------------------------------------------------


class Link:
    """Simulates the responses of a link with this rate and round-trip time, and reports them to the estimator."""

    def __init__(self, estimator: LinkEstimator, bytes_per_second: float, round_trip_s: float) -> None:
        self.estimator, self.rate, self.round_trip_s = estimator, bytes_per_second, round_trip_s
        self.now = self.free_at = 0.0

    def carry(self, batches: int, records: int) -> None:
        """Send batches of 40-byte records, each while the previous one is in flight."""
        for _ in range(batches):
            sent_at = self.now
            self.free_at = max(sent_at, self.free_at) + (records * 40 + OVERHEAD_BYTES) / self.rate
            self.estimator.sent(records, records * 40)
            self.estimator.answered(records * 40, sent_at, self.free_at + self.round_trip_s)
            self.now = self.free_at  # the next batch is queued when this one has been sent


@pytest.mark.parametrize("round_trip_s", [0.001, 0.08, 1.2])
def test_a_batch_takes_half_a_second_of_the_link_for_any_round_trip_time(round_trip_s: float) -> None:
    estimator = LinkEstimator()
    link = Link(estimator, 16_000, round_trip_s)
    link.carry(1, 1)
    link.carry(10, 100)
    assert 180 <= estimator.records_max <= 210


def test_enough_batches_are_in_flight_to_keep_the_link_busy() -> None:
    for round_trip_s, batches in ((0.001, 2), (0.08, 2), (0.6, 3), (1.2, 4), (2.9, ROUTINE_IN_FLIGHT_MAX)):
        estimator = LinkEstimator()
        assert estimator.routine_in_flight_max == ROUTINE_IN_FLIGHT_MIN
        Link(estimator, 1e6, round_trip_s).carry(1, 1)
        assert estimator.routine_in_flight_max == batches


def test_the_estimate_follows_a_link_that_becomes_slow_and_stays_within_bounds() -> None:
    estimator = LinkEstimator()
    link = Link(estimator, 1e9, 0.01)
    link.carry(10, 1000)
    assert estimator.records_max == RECORDS_PER_BATCH_MAX
    link.rate = 16_000
    link.carry(1, 1000)
    assert estimator.records_max < 500  # the rate allows 200
    link.rate = 1
    link.carry(1, 1000)
    assert estimator.records_max == RECORDS_MIN


def test_few_routine_records_linger_and_many_do_not() -> None:
    scheduler = SendScheduler(LinkEstimator(), Timing(30.0))
    scheduler.urgent = False
    assert scheduler.arrived(Priority.ROUTINE, 1, 100.0)
    assert scheduler.choose(129.0) == (False, False)
    assert scheduler.due_at() == 130.0
    assert scheduler.choose(130.0) == (False, True)
    assert not scheduler.arrived(Priority.ROUTINE, ROUTINE_WORTH_A_BATCH - 2, 101.0)
    assert scheduler.arrived(Priority.ROUTINE, 1, 101.0)
    assert scheduler.choose(101.0) == (False, True)


def test_two_routine_batches_fill_the_link_and_alerts_are_still_sent() -> None:
    scheduler = SendScheduler(LinkEstimator(), Timing(30.0), routine=1000)
    scheduler.urgent = False
    scheduler.routine_in_flight = 2
    assert scheduler.choose(0.0) == (False, False)
    assert scheduler.due_at() == inf
    assert scheduler.arrived(Priority.ALERT, 1, 0.0)
    assert scheduler.choose(0.0) == (True, False)
    scheduler.urgent_in_flight = 2
    assert scheduler.choose(0.0) == (False, False)


@pytest.mark.parametrize("kind", ["urgent_in_flight", "routine_in_flight"])
def test_with_one_in_flight_nothing_is_sent_before_the_response(kind: str) -> None:
    estimator = LinkEstimator()
    scheduler = SendScheduler(estimator, Timing(30.0), routine=1000)
    estimator.one_in_flight = True
    assert scheduler.choose(0.0) == (True, False)
    setattr(scheduler, kind, 1)
    assert (scheduler.choose(0.0), scheduler.due_at()) == ((False, False), inf)
    estimator.one_in_flight = False
    assert scheduler.choose(0.0) == (True, False)


def test_a_batch_with_an_alert_includes_a_few_routine_records_but_no_backlog() -> None:
    scheduler = SendScheduler(LinkEstimator(), Timing(30.0))
    scheduler.arrived(Priority.ROUTINE, ROUTINE_WORTH_A_BATCH - 1, 0.0)
    assert scheduler.choose(0.0) == (True, True)
    scheduler.arrived(Priority.ROUTINE, 1, 0.0)
    assert scheduler.choose(0.0) == (True, False)


def test_the_scheduler_does_not_wait_for_unreadable_records() -> None:
    scheduler = SendScheduler(LinkEstimator(), Timing(30.0), routine=5)
    scheduler.routine_read(5, 3)
    assert scheduler.routine == 2
    scheduler.routine_read(2, 0)
    assert scheduler.routine == 0
    assert scheduler.due_at() == inf


# -- marks ----------------------------------------------------------------------------------------------


def digest(number: int) -> bytes:
    return digest_of(str(number).encode())


def test_a_mark_distinguishes_duplicates_new_reports_and_reports_of_other_runs() -> None:
    mark = HighWaterMark()
    assert mark.is_above(7, 1)
    mark.accept(7, 5, digest(5))
    assert not mark.is_above(7, 5)
    assert not mark.is_above(7, 1)
    assert mark.is_above(7, 6)
    assert mark.is_above(8, 1)
    assert mark.contains(digest(5))
    assert not mark.contains(digest(1))


def test_a_mark_remembers_the_reports_of_one_full_request() -> None:
    mark = HighWaterMark()
    for number in range(1, DIGESTS_MAX + 2):
        mark.accept(1, number, digest(number))
    assert DIGESTS_MAX >= REPORTS_PER_POST_MAX
    assert [n for n in range(1, DIGESTS_MAX + 2) if not mark.contains(digest(n))] == [1]


def test_reports_missing_from_a_torn_group_are_new_when_they_come_again() -> None:
    mark = HighWaterMark()
    mark.accept(1, 10, digest(10))
    mark.restore(1, 14, digest(14), certain=False)
    mark.restore(1, 15, digest(15), certain=False)
    assert mark.contains(digest(14))
    assert [n for n in range(1, 18) if mark.is_above(1, n)] == [11, 12, 13, 16, 17]
    mark.accept(1, 11, digest(11))
    assert [n for n in range(1, 18) if mark.is_above(1, n)] == [12, 13, 16, 17]
    mark.accept(1, 16, digest(16))
    assert [n for n in range(1, 18) if mark.is_above(1, n)] == [17]


def test_too_many_holes_are_not_remembered_and_nothing_is_lost() -> None:
    mark = HighWaterMark()
    mark.accept(1, 1, digest(1))
    for number in range(3, 3 + 2 * (HOLES_MAX + 1), 2):
        mark.restore(1, number, digest(number), certain=False)
    assert len(mark.holes) == HOLES_MAX
    assert mark.is_above(1, 3 + 2 * HOLES_MAX)


def test_the_state_of_the_most_instruments_fits_into_the_snapshot() -> None:
    state = BoxState()
    for instrument in range(INSTRUMENTS_MAX):
        for mark in state.marks(f"{instrument:024}"):
            mark.run, mark.number = 2**32 - 1, INT_MAX
            mark.holes = [(INT_MAX, INT_MAX)] * HOLES_MAX
            mark.digests = bytes(DIGESTS_MAX * DIGEST_BYTES)
    for name in ["", *(f"{instrument:024}" for instrument in range(INSTRUMENTS_MAX))]:
        history = state.history(name)
        history.started, history.finished = [INT_MAX] * WAITING_MAX, [INT_MAX] * FINISHED_MAX
    for file in range(FILES_MAX):
        state.log_cursor(SYSTEM).accept(file.to_bytes(FILE_ID_BYTES), 2**40, bytes(PIECE_BYTES_MAX))
    assert 0.5 * SNAPSHOT_BYTES_MAX < len(state.snapshot()) <= SNAPSHOT_BYTES_MAX
    SpoolLimits(snapshot_bytes_max=SNAPSHOT_BYTES_MAX)


def test_the_marks_of_an_earlier_release_are_read() -> None:
    saved = msgspec.msgpack.encode({"CHEM-1": [(7, 5, []), (3, 2, [(1, 1)]), (-1, 0, [])]})
    state = BoxState()
    state.restore(cast(RecoveredSpool, SimpleNamespace(snapshot=saved, records=lambda: ())), {"CHEM-1"})
    assert [mark.is_above(7, 5) for mark in state.marks("CHEM-1")] == [False, True, True]
    assert state.marks("CHEM-1")[1].is_above(3, 1)


def test_the_profile_of_an_instrument_is_restored_with_its_port_or_0_of_earlier_releases() -> None:
    state, again = BoxState(), BoxState()
    state.set_recorded_profile("CHEM-1", "chemistry-analyzer", 3, 2)
    earlier = msgspec.msgpack.encode(
        msgspec.msgpack.decode(state.snapshot())[:-1]
    )  # of a release without ports
    for saved, port in ((state.snapshot(), 2), (earlier, 0)):
        again.restore(cast(RecoveredSpool, SimpleNamespace(snapshot=saved, records=lambda: ())), {"CHEM-1"})
        assert again.recorded_profile("CHEM-1") == ("chemistry-analyzer", 3, port)
    assert again.recorded_profile("HEMA-1") is None


# -- rates, command and report queues ---------------------------------------------------------------------


def test_a_bucket_permits_a_burst_and_then_the_rate() -> None:
    bucket = TokenBucket(20.0, 100)
    assert bucket.take(100, 5.0) == 0
    assert bucket.take(40, 5.0) == 2.0
    assert bucket.take(40, 7.0) == 0
    assert bucket.take(1, 7.0) == pytest.approx(0.05)
    assert bucket.take(101, 1e6) > 0


@pytest.mark.parametrize("start", [0.0, 0.1, 17.3, 1e6])
def test_a_bucket_has_a_token_after_the_wait_that_it_returned(start: float) -> None:
    bucket, now = TokenBucket(1 / 5, 3), start
    for _ in range(1000):
        if seconds := bucket.take(1, now):
            assert seconds > 1e-3
            now += seconds
            assert bucket.take(1, now) == 0
    assert now - start == pytest.approx(997 * 5.0, rel=1e-3)


def test_a_queue_repeats_a_command_until_it_is_finished() -> None:
    queue, command = CommandQueue(), Command(4, "CHEM-1", "help-file")
    assert queue.put(command)
    assert not queue.put(command)
    assert queue.take(0.0) == [command]
    assert queue.take(1.0) == []
    assert queue.take(REPEAT_SECONDS) == [command]
    queue.finished(4)
    assert queue.take(1e6) == []
    assert not queue.put(command)


def test_a_command_queue_has_limits() -> None:
    queue = CommandQueue()
    for number in range(1, FINISHED_MAX + 2):
        queue.finished(number)
    taken = [queue.put(Command(number, "CHEM-1", "help-file")) for number in range(1, WAITING_MAX + 1000)]
    assert taken[0] and not any(taken[1 : FINISHED_MAX + 1])  # only the oldest has been forgotten
    assert taken.count(True) == WAITING_MAX


def test_the_report_queue_posts_alerts_first_and_repeats_a_request_until_acknowledged() -> None:
    report_queue = ReportQueue()
    for number in range(1, REPORTS_PER_POST_MAX + 3):
        report_queue.put(routine(number))
    first = report_queue.post()
    assert [report.number for report in first] == list(range(1, REPORTS_PER_POST_MAX + 1))
    report_queue.put(alert(100))
    assert report_queue.post() == first
    assert report_queue.posted() == first
    assert [report.number for report in report_queue.post()] == [
        100,
        REPORTS_PER_POST_MAX + 1,
        REPORTS_PER_POST_MAX + 2,
    ]
    report_queue.posted()
    assert not report_queue
    assert list(report_queue.acknowledged) == [(1, REPORTS_PER_POST_MAX + 2), (100, 100)]


def test_a_full_report_queue_drops_only_the_oldest_routine_report() -> None:
    report_queue = ReportQueue(4)
    for report in [
        routine(1),
        alert(2),
        routine(3),
        CommandResult(4, 0, 9, "done"),
        alert(5),
        alert(6),
        alert(7),
    ]:
        report_queue.put(report)
    assert list(report_queue.dropped) == [(1, 1), (3, 3)]
    assert [report.number for report in report_queue.post()] == [2, 5, 6, 7, 4]


def test_a_rejected_request_is_split_until_the_rejected_report_is_found() -> None:
    report_queue = ReportQueue()
    for number in (1, 2, 3):
        report_queue.put(routine(number))
    report_queue.post()
    report_queue.refused()
    assert [report.number for report in report_queue.post()] == [1]
    report_queue.posted()
    assert [report.number for report in report_queue.post()] == [2]
    report_queue.refused()
    report_queue.put(routine(4))
    assert [report.number for report in report_queue.post()] == [3]
    report_queue.posted()
    assert [report.number for report in report_queue.post()] == [4]
    assert list(report_queue.dropped) == [(2, 2)]
    assert list(report_queue.acknowledged) == [(1, 1), (3, 3)]
