"""The link estimator and the batch scheduler, with each limit tested separately."""

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
)
from agents.spool import Priority
from wire.messages import RECORDS_PER_BATCH_MAX

SLOW = SLOW_SECONDS + 1.0


def answer(estimator: LinkEstimator, at: float, seconds: float, records: int, size: int = 1000) -> float:
    """Send a full batch at that time, and have it answered; the time of the answer."""
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


def test_the_rate_is_that_of_the_transmission_without_the_round_trip() -> None:
    estimator = LinkEstimator()
    answer(estimator, 0.0, 0.1, 10)
    assert estimator.bytes_per_second == 0, "the shortest response is the round trip"
    answer(estimator, 1.0, 0.6, 10)  # 0.5 s of which are the transmission
    assert estimator.bytes_per_second == pytest.approx((1000 + OVERHEAD_BYTES) / 0.5)
    answer(estimator, 2.0, 1.1, 10)  # 1 s
    weighted = (1000 + OVERHEAD_BYTES) * (1 + DECAY) / (1 + DECAY * 0.5)
    assert estimator.bytes_per_second == pytest.approx(weighted)


def test_a_batch_that_waited_for_the_one_before_it_is_measured_from_that_answer() -> None:
    estimator = LinkEstimator()
    answer(estimator, 0.0, 0.1, 10)
    for _ in range(2):
        estimator.sent(10, 1000)
    estimator.answered(1000, 1.0, 1.6)
    estimator.answered(1000, 1.0, 2.1)  # half a second after the one before it
    assert estimator.bytes_per_second == pytest.approx((1000 + OVERHEAD_BYTES) / 0.5)


def test_a_batch_is_as_long_as_the_link_takes_for_it() -> None:
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


def test_a_new_connection_has_a_round_trip_of_its_own_and_the_rate_of_the_last_one() -> None:
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
def test_an_answer_that_takes_longer_than_any_link_is_the_data_centers(seconds: float, is_slow: bool) -> None:
    estimator = LinkEstimator()
    answer(estimator, 0.0, seconds, 64)
    assert estimator.is_slow is is_slow
    assert (estimator.routine_in_flight_max == 1) is is_slow
    assert (estimator.urgent_in_flight_max == 1) is is_slow


def test_a_slow_answer_says_nothing_of_the_link() -> None:
    estimator = LinkEstimator()
    answer(estimator, 0.0, 0.1, 10)
    now = answer(estimator, 1.0, 0.6, 10)
    rate = estimator.bytes_per_second
    answer(estimator, now, SLOW, 10)
    assert estimator.bytes_per_second == rate


def test_the_time_until_a_slow_answer_counts_from_the_answer_before_it() -> None:
    estimator = LinkEstimator()
    for _ in range(2):
        estimator.sent(10, 1000)
    estimator.answered(1000, 0.0, 2.0, 10)
    estimator.answered(1000, 0.0, 4.5, 10)
    assert not estimator.is_slow


def test_batches_shrink_while_smaller_ones_are_answered_sooner_and_grow_while_they_are_not() -> None:
    estimator = LinkEstimator()
    now = answer(estimator, 0.0, 40.0, 64)
    assert estimator.records_max == RECORDS_MIN, "whether small batches are quicker has to be tried"
    now = answer(estimator, now, 39.0, RECORDS_MIN)
    assert estimator.records_max == 2 * RECORDS_MIN, "they are not"
    now = answer(estimator, now, 40.0, 2 * RECORDS_MIN)
    assert estimator.records_max == 4 * RECORDS_MIN
    now = answer(estimator, now, 80.0, 4 * RECORDS_MIN)
    assert estimator.records_max == 2 * RECORDS_MIN, "twice the records took twice the time"
    now = answer(estimator, now, 40.0, 2 * RECORDS_MIN)
    assert estimator.records_max == RECORDS_MIN, "and half of them half"
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


def test_two_batches_of_one_size_say_nothing_of_smaller_ones() -> None:
    estimator = LinkEstimator()
    now = answer(estimator, 0.0, 40.0, 16)
    now = answer(estimator, now, 10.0, 16)
    assert estimator.records_max == 2 * RECORDS_MIN
    answer(estimator, now, 40.0, 16)
    assert estimator.records_max == 4 * RECORDS_MIN


def test_a_batch_that_was_not_full_says_nothing_of_the_size() -> None:
    estimator = LinkEstimator()
    now = answer(estimator, 0.0, 40.0, 64)
    estimator.answered(1000, now, now + 40.0, 0)
    assert estimator.records_max == RECORDS_MIN


def test_batches_are_never_larger_than_a_batch_may_be() -> None:
    estimator = LinkEstimator()
    now = 0.0
    for _ in range(20):
        now = answer(estimator, now, 40.0, estimator.records_max)
        assert estimator.records_max <= RECORDS_PER_BATCH_MAX
    assert estimator.records_max == RECORDS_PER_BATCH_MAX


def test_after_a_time_out_one_small_batch_is_in_flight_until_there_is_an_answer() -> None:
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


def test_a_batch_as_large_as_the_one_that_was_cut_off_is_tried_after_eight_answers() -> None:
    estimator = LinkEstimator()
    estimator.cut_off(64)
    now = 0.0
    for _ in range(ANSWERS_BEFORE_LARGER):
        assert estimator.records_max == 32
        now = answer(estimator, now, 0.1, 32)
    assert estimator.records_max == min(64, RECORDS_FIRST)
    now = answer(estimator, now, 0.1, 64, 64)
    now = answer(estimator, now, 0.1001, 64, 64)
    assert estimator.records_max == 256, "it is not cut off any more, so that each answer doubles"


def test_after_another_cut_the_answers_are_counted_anew() -> None:
    estimator = LinkEstimator()
    now = 0.0
    for _ in range(2):
        estimator.cut_off(64)
        for _ in range(ANSWERS_BEFORE_LARGER - 1):
            now = answer(estimator, now, 0.1, 32)
    assert estimator.records_max == 32
    answer(estimator, now, 0.1, 32)
    assert estimator.records_max > 32


# -- what to send next


def scheduler(routine: int = 0, *, urgent: bool = False) -> SendScheduler:
    made = SendScheduler(LinkEstimator(), 30.0, routine)
    made.urgent = urgent
    return made


def test_at_the_beginning_something_urgent_may_wait_and_routine_records_do_not_linger() -> None:
    assert SendScheduler(LinkEstimator(), 30.0).choose(0.0) == (True, False)
    assert scheduler(1).choose(0.0) == (False, True)
    assert scheduler(1).due_at() == -inf
    assert scheduler().due_at() == inf


def test_few_routine_records_go_with_something_urgent_and_many_do_not_delay_it() -> None:
    assert scheduler(ROUTINE_WORTH_A_BATCH - 1, urgent=True).choose(0.0) == (True, True)
    assert scheduler(ROUTINE_WORTH_A_BATCH, urgent=True).choose(0.0) == (True, False)


def test_routine_records_wait_until_there_is_room_and_something_urgent_has_its_own() -> None:
    made = scheduler(1000)
    made.routine_in_flight = ROUTINE_IN_FLIGHT_MIN
    assert made.choose(0.0) == (False, False)
    assert made.due_at() == inf
    made.urgent = True
    assert made.choose(0.0) == (True, False)
    made.urgent_in_flight = URGENT_IN_FLIGHT_MAX
    assert made.choose(0.0) == (False, False)
    made.routine_in_flight -= 1
    assert made.choose(0.0) == (False, True)


def test_where_one_request_is_served_at_a_time_one_is_in_flight() -> None:
    estimator = LinkEstimator()
    estimator.one_in_flight = True
    made = SendScheduler(estimator, 30.0, 1000)
    assert made.choose(0.0) == (True, False)
    for routine, urgent in ((1, 0), (0, 1)):
        made.routine_in_flight, made.urgent_in_flight = routine, urgent
        assert made.choose(0.0) == (False, False)
        assert made.due_at() == inf


def test_what_is_urgent_waits_while_another_connection_carries_it() -> None:
    made = scheduler(1000, urgent=True)
    made.urgent_is_bypassed = True
    assert made.choose(0.0) == (False, True)


def test_while_the_data_center_is_slow_a_batch_with_an_alert_goes_alone() -> None:
    estimator = LinkEstimator()
    answer(estimator, 0.0, SLOW, 64)
    made = SendScheduler(estimator, 30.0, 1000)
    made.urgent_in_flight = 1
    assert made.choose(0.0) == (False, False)
    made.urgent_in_flight = 0
    assert made.choose(0.0) == (True, False)


def test_a_new_record_wakes_the_sender_only_if_something_changes() -> None:
    made = scheduler()
    assert made.arrived(Priority.AUDIT, 1, 100.0) and made.urgent
    assert made.arrived(Priority.ROUTINE, 1, 100.0), "the first: it has a time until which it waits"
    assert made.due_at() == 130.0
    assert not made.arrived(Priority.ROUTINE, ROUTINE_WORTH_A_BATCH - 2, 110.0)
    assert made.due_at() == 130.0
    made.routine_in_flight = ROUTINE_IN_FLIGHT_MIN
    assert not made.arrived(Priority.ROUTINE, 1, 110.0), "there is no room for them"
    made.routine_in_flight = 0
    assert made.arrived(Priority.ROUTINE, 1, 110.0)
    assert made.routine == ROUTINE_WORTH_A_BATCH + 1


@pytest.mark.parametrize(
    ("waiting", "read", "left"), [(100, 64, 36), (100, 100, 0), (100, 120, 0), (100, 0, 0)]
)
def test_what_was_read_no_longer_waits(waiting: int, read: int, left: int) -> None:
    made = scheduler(waiting)
    made.routine_read(waiting, read)
    assert made.routine == left
    assert made.routine_due_at == (-inf if left else inf), "what is left has waited already"


def test_records_that_arrived_during_a_read_are_counted() -> None:
    made = scheduler(10)
    made.routine += 5  # while the first ten were being read
    made.routine_read(10, 0)
    assert made.routine == 5
