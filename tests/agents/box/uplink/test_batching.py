"""The link estimator and the send scheduler, with each limit tested separately."""

from __future__ import annotations

from math import inf

import pytest

from agents.box.uplink.batching import (
    ANSWERS_BEFORE_LARGER,
    BATCH_SECONDS,
    DECAY,
    OVERHEAD_BYTES,
    RECORDS_FIRST,
    RECORDS_MIN,
    ROUTINE_IN_FLIGHT_MAX,
    ROUTINE_IN_FLIGHT_MIN,
    ROUTINE_WORTH_A_BATCH,
    SLOW_SECONDS,
    URGENT_IN_FLIGHT_MAX,
    LinkEstimator,
    SendScheduler,
    Timing,
)
from agents.spool import Priority
from wire.messages import RECORDS_PER_BATCH_MAX

SLOW = SLOW_SECONDS + 1.0


def answer(estimator: LinkEstimator, at: float, seconds: float, records: int, size: int = 1000) -> float:
    """Send a full batch at time `at`, with a response after `seconds`; return the time of the response."""
    estimator.sent(records, size)
    estimator.answered(size, at, at + seconds, records)
    return at + seconds


# -- the link


def test_before_anything_is_measured_a_few_small_batches_are_sent() -> None:
    estimator = LinkEstimator()
    assert estimator.records_max == RECORDS_FIRST
    assert estimator.bytes_per_second == 0
    assert estimator.routine_in_flight_max == ROUTINE_IN_FLIGHT_MIN
    assert estimator.urgent_in_flight_max == URGENT_IN_FLIGHT_MAX
    assert not estimator.is_slow and not estimator.one_in_flight


def test_the_rate_excludes_the_round_trip_time() -> None:
    estimator = LinkEstimator()
    answer(estimator, 0.0, 0.1, 10)
    assert estimator.bytes_per_second == 0, "the shortest response is the round trip"
    answer(estimator, 1.0, 0.6, 10)  # transmission takes 0.5 s of this
    assert estimator.bytes_per_second == pytest.approx((1000 + OVERHEAD_BYTES) / 0.5)
    answer(estimator, 2.0, 1.1, 10)  # 1 s
    weighted = (1000 + OVERHEAD_BYTES) * (1 + DECAY) / (1 + DECAY * 0.5)
    assert estimator.bytes_per_second == pytest.approx(weighted)


def test_a_pipelined_batch_is_measured_from_the_previous_response() -> None:
    estimator = LinkEstimator()
    answer(estimator, 0.0, 0.1, 10)
    for _ in range(2):
        estimator.sent(10, 1000)
    estimator.answered(1000, 1.0, 1.6)
    estimator.answered(1000, 1.0, 2.1)  # half a second after the previous response
    assert estimator.bytes_per_second == pytest.approx((1000 + OVERHEAD_BYTES) / 0.5)


def test_a_batch_is_sized_for_a_fixed_transmission_time() -> None:
    estimator = LinkEstimator()
    answer(estimator, 0.0, 0.1, 10)
    answer(estimator, 1.0, 0.6, 10, 40_000)
    bytes_each = (40_000 + DECAY * 1000) / (10 + DECAY * 10)
    rate = (40_000 + OVERHEAD_BYTES) / 0.5
    expected = int((rate * BATCH_SECONDS - OVERHEAD_BYTES) / bytes_each)
    assert estimator.records_max == max(RECORDS_MIN, expected)
    answer(estimator, 2.0, 0.6, 1000, 40_000)
    bytes_each = (40_000 + DECAY * (40_000 + DECAY * 1000)) / (1000 + DECAY * (10 + DECAY * 10))
    assert estimator.records_max == int((rate * BATCH_SECONDS - OVERHEAD_BYTES) / bytes_each)


def test_a_new_connection_measures_the_round_trip_again_and_keeps_the_rate() -> None:
    estimator = LinkEstimator()
    answer(estimator, 0.0, 2.0, 10)
    assert estimator.routine_in_flight_max == 1 + 2.0 / BATCH_SECONDS
    answer(estimator, 10.0, 2.5, 10)
    rate = estimator.bytes_per_second
    assert rate > 0
    estimator.connected()
    assert estimator.routine_in_flight_max == ROUTINE_IN_FLIGHT_MIN
    assert estimator.bytes_per_second == rate
    answer(estimator, 20.0, 2.9, 10)
    assert estimator.bytes_per_second == rate
    assert estimator.routine_in_flight_max == ROUTINE_IN_FLIGHT_MAX


# -- a slow data center


@pytest.mark.parametrize(("seconds", "is_slow"), [(SLOW_SECONDS, False), (SLOW_SECONDS + 0.001, True)])
def test_a_very_slow_response_is_attributed_to_the_data_center(seconds: float, is_slow: bool) -> None:
    estimator = LinkEstimator()
    answer(estimator, 0.0, seconds, 64)
    assert estimator.is_slow is is_slow
    assert (estimator.routine_in_flight_max == 1) is is_slow
    assert (estimator.urgent_in_flight_max == 1) is is_slow


def test_a_slow_response_does_not_change_the_rate() -> None:
    estimator = LinkEstimator()
    answer(estimator, 0.0, 0.1, 10)
    now = answer(estimator, 1.0, 0.6, 10)
    rate = estimator.bytes_per_second
    answer(estimator, now, SLOW, 10)
    assert estimator.bytes_per_second == rate


def test_the_duration_of_a_slow_response_begins_at_the_previous_response() -> None:
    estimator = LinkEstimator()
    for _ in range(2):
        estimator.sent(10, 1000)
    estimator.answered(1000, 0.0, 2.0, 10)
    estimator.answered(1000, 0.0, 4.5, 10)
    assert not estimator.is_slow


def test_batches_shrink_while_that_makes_responses_faster_and_grow_otherwise() -> None:
    estimator = LinkEstimator()
    now = answer(estimator, 0.0, 40.0, 64)
    assert estimator.records_max == RECORDS_MIN, "small batches are tried, to measure whether they are faster"
    now = answer(estimator, now, 39.0, RECORDS_MIN)
    assert estimator.records_max == 2 * RECORDS_MIN, "they are not faster"
    now = answer(estimator, now, 40.0, 2 * RECORDS_MIN)
    assert estimator.records_max == 4 * RECORDS_MIN
    now = answer(estimator, now, 80.0, 4 * RECORDS_MIN)
    assert estimator.records_max == 2 * RECORDS_MIN, "twice the records took twice the time"
    now = answer(estimator, now, 40.0, 2 * RECORDS_MIN)
    assert estimator.records_max == RECORDS_MIN, "half the records took half the time"
    now = answer(estimator, now, 40.0, RECORDS_MIN)
    assert estimator.records_max == 2 * RECORDS_MIN


@pytest.mark.parametrize(("seconds", "records"), [(60.0, 64), (60.1, 16)])
def test_batches_shrink_if_twice_the_records_take_more_than_half_as_long_again(
    seconds: float, records: int
) -> None:
    estimator = LinkEstimator()
    now = answer(estimator, 0.0, 40.0, 16)
    now = answer(estimator, now, 40.0, 16)
    answer(estimator, now, seconds, 32)
    assert estimator.records_max == (64 if seconds == 60.0 else RECORDS_MIN)
    assert estimator.records_max == records


def test_two_batches_of_equal_size_do_not_shrink_batches() -> None:
    estimator = LinkEstimator()
    now = answer(estimator, 0.0, 40.0, 16)
    now = answer(estimator, now, 10.0, 16)
    assert estimator.records_max == 2 * RECORDS_MIN
    answer(estimator, now, 40.0, 16)
    assert estimator.records_max == 4 * RECORDS_MIN


def test_a_batch_that_was_not_full_does_not_change_the_size() -> None:
    estimator = LinkEstimator()
    now = answer(estimator, 0.0, 40.0, 64)
    estimator.answered(1000, now, now + 40.0, 0)
    assert estimator.records_max == RECORDS_MIN


def test_batches_never_exceed_the_maximum() -> None:
    estimator = LinkEstimator()
    now = 0.0
    for _ in range(20):
        now = answer(estimator, now, 40.0, estimator.records_max)
        assert estimator.records_max <= RECORDS_PER_BATCH_MAX
    assert estimator.records_max == RECORDS_PER_BATCH_MAX


def test_after_a_time_out_one_small_batch_is_in_flight_until_a_response_arrives() -> None:
    estimator = LinkEstimator()
    now = answer(estimator, 0.0, 0.1, 1000)
    answer(estimator, now, 0.2, 1000)
    assert estimator.records_max > RECORDS_MIN
    estimator.unanswered()
    assert (estimator.records_max, estimator.routine_in_flight_max, estimator.urgent_in_flight_max) == (
        RECORDS_MIN,
        1,
        1,
    )
    answer(estimator, 10.0, 0.1, RECORDS_MIN)
    assert estimator.routine_in_flight_max > 1


# -- batches that are cut off


@pytest.mark.parametrize(("records", "then"), [(64, 32), (3, 1), (2, 1), (1, 1)])
def test_a_batch_that_was_cut_off_is_halved(records: int, then: int) -> None:
    estimator = LinkEstimator()
    estimator.cut_off(records)
    assert estimator.records_max == then


def test_the_size_that_was_cut_off_is_tried_again_after_eight_responses() -> None:
    estimator = LinkEstimator()
    estimator.cut_off(64)
    now = 0.0
    for _ in range(ANSWERS_BEFORE_LARGER):
        assert estimator.records_max == 32
        now = answer(estimator, now, 0.1, 32)
    assert estimator.records_max == min(64, RECORDS_FIRST)
    now = answer(estimator, now, 0.1, 64, 64)
    now = answer(estimator, now, 0.1001, 64, 64)
    assert estimator.records_max == 256, "the size is no longer limited, so that each response doubles it"


def test_after_another_cut_the_responses_are_counted_from_zero() -> None:
    estimator = LinkEstimator()
    now = 0.0
    for _ in range(2):
        estimator.cut_off(64)
        for _ in range(ANSWERS_BEFORE_LARGER - 1):
            now = answer(estimator, now, 0.1, 32)
    assert estimator.records_max == 32
    answer(estimator, now, 0.1, 32)
    assert estimator.records_max > 32


@pytest.mark.parametrize(("cut_off", "answered", "grown"), [(2, 8, 2), (64, 8, 64), (65, 1, 64), (66, 8, 66)])
def test_only_the_size_that_was_cut_off_needs_eight_responses(
    cut_off: int, answered: int, grown: int
) -> None:
    estimator = LinkEstimator()
    estimator.cut_off(cut_off)
    half, now = cut_off // 2, 0.0
    for _ in range(answered):
        assert estimator.records_max == half
        now = answer(estimator, now, 0.1, half)
    assert estimator.records_max == grown


def test_each_attempt_with_larger_batches_needs_eight_responses() -> None:
    estimator = LinkEstimator()
    now = answer(estimator, 0.0, 0.1, 10)
    now = answer(estimator, now, 0.1001, 10, 1_000_000)  # a fast link, which does not limit batches
    estimator.cut_off(64)
    for records in (32, 64):
        for _ in range(ANSWERS_BEFORE_LARGER):
            assert estimator.records_max == records
            now = answer(estimator, now, 0.1, 32, 10)
    assert estimator.records_max == 128


# -- what to send next


def scheduler(routine: int = 0, *, urgent: bool = False) -> SendScheduler:
    scheduled = SendScheduler(LinkEstimator(), Timing(30.0), routine)
    scheduled.urgent = urgent
    return scheduled


def test_initially_urgent_records_may_wait_and_routine_records_do_not_linger() -> None:
    assert SendScheduler(LinkEstimator(), Timing(30.0)).choose(0.0) == (True, False)
    assert scheduler(1).choose(0.0) == (False, True)
    assert scheduler(1).due_at() == -inf
    assert scheduler().due_at() == inf


def test_few_routine_records_are_sent_with_urgent_ones_and_many_do_not_delay_them() -> None:
    assert scheduler(ROUTINE_WORTH_A_BATCH - 1, urgent=True).choose(0.0) == (True, True)
    assert scheduler(ROUTINE_WORTH_A_BATCH, urgent=True).choose(0.0) == (True, False)


def test_routine_and_urgent_records_have_separate_limits_in_flight() -> None:
    scheduled = scheduler(1000)
    scheduled.routine_in_flight = ROUTINE_IN_FLIGHT_MIN
    assert scheduled.choose(0.0) == (False, False)
    assert scheduled.due_at() == inf
    scheduled.urgent = True
    assert scheduled.choose(0.0) == (True, False)
    scheduled.urgent_in_flight = URGENT_IN_FLIGHT_MAX
    assert scheduled.choose(0.0) == (False, False)
    scheduled.routine_in_flight -= 1
    assert scheduled.choose(0.0) == (False, True)


def test_one_batch_is_in_flight_if_requests_are_served_one_at_a_time() -> None:
    estimator = LinkEstimator()
    estimator.one_in_flight = True
    scheduled = SendScheduler(estimator, Timing(30.0), 1000)
    assert scheduled.choose(0.0) == (True, False)
    for routine, urgent in ((1, 0), (0, 1)):
        scheduled.routine_in_flight, scheduled.urgent_in_flight = routine, urgent
        assert scheduled.choose(0.0) == (False, False)
        assert scheduled.due_at() == inf


def test_urgent_records_are_not_sent_while_another_connection_carries_them() -> None:
    scheduled = scheduler(1000, urgent=True)
    scheduled.urgent_is_bypassed = True
    assert scheduled.choose(0.0) == (False, True)


def test_while_the_data_center_is_slow_a_batch_with_an_alert_is_the_only_one_in_flight() -> None:
    estimator = LinkEstimator()
    answer(estimator, 0.0, SLOW, 64)
    scheduled = SendScheduler(estimator, Timing(30.0), 1000)
    scheduled.urgent_in_flight = 1
    assert scheduled.choose(0.0) == (False, False)
    scheduled.urgent_in_flight = 0
    assert scheduled.choose(0.0) == (True, False)


def test_a_new_record_wakes_the_sender_only_if_something_changes() -> None:
    scheduled = scheduler()
    assert scheduled.arrived(Priority.AUDIT, 1, 100.0) and scheduled.urgent
    assert scheduled.arrived(Priority.ROUTINE, 1, 100.0), "the first one sets the time of the next batch"
    assert scheduled.due_at() == 130.0
    assert not scheduled.arrived(Priority.ROUTINE, ROUTINE_WORTH_A_BATCH - 2, 110.0)
    assert scheduled.due_at() == 130.0
    scheduled.routine_in_flight = ROUTINE_IN_FLIGHT_MIN
    assert not scheduled.arrived(Priority.ROUTINE, 1, 110.0), "no further routine batch may be in flight"
    scheduled.routine_in_flight = 0
    assert scheduled.arrived(Priority.ROUTINE, 1, 110.0)
    assert scheduled.routine == ROUTINE_WORTH_A_BATCH + 1


@pytest.mark.parametrize(
    ("waiting", "read", "left"), [(100, 64, 36), (100, 100, 0), (100, 120, 0), (100, 0, 0)]
)
def test_records_that_were_read_no_longer_count_as_waiting(waiting: int, read: int, left: int) -> None:
    scheduled = scheduler(waiting)
    scheduled.routine_read(waiting, read)
    assert scheduled.routine == left
    assert scheduled.routine_due_at == (-inf if left else inf), "the remaining records have waited already"


def test_records_that_arrived_during_a_read_are_counted() -> None:
    scheduled = scheduler(10)
    scheduled.routine += 5  # while the first ten were being read
    scheduled.routine_read(10, 0)
    assert scheduled.routine == 5


@pytest.mark.parametrize(
    ("routine", "urgent", "backlog"),
    [
        (0, False, False),
        (0, True, True),
        (ROUTINE_WORTH_A_BATCH - 1, False, False),
        (ROUTINE_WORTH_A_BATCH, False, True),
    ],
)
def test_records_that_are_due_are_a_backlog(routine: int, urgent: bool, backlog: bool) -> None:
    scheduled = scheduler(routine, urgent=urgent)
    scheduled.routine_due_at = 10.0
    assert scheduled.has_backlog(9.0) is backlog
    assert scheduled.has_backlog(10.0) is (backlog or routine > 0)
    scheduled.urgent_is_bypassed = True
    assert scheduled.has_backlog(9.0) is (routine >= ROUTINE_WORTH_A_BATCH)
