"""The slot state: after a power cut at any byte of an update's writes, and with any copy destroyed, a permitted slot
is started.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settings import slots
from settings.slots import RECORD_BYTES, Choice, SlotState
from tests.support.imaging.starts import boot_states
from tests.support.imaging.starts.boot_states import BootState

COMMITTED_A = SlotState(8, "a")
STATES = st.builds(
    SlotState, st.integers(0, slots.NUMBER_MAX), st.sampled_from("ab"), st.sampled_from(["a", "b", None])
)
INVALID = st.one_of(st.binary(max_size=8), st.binary(min_size=RECORD_BYTES, max_size=RECORD_BYTES))


@given(STATES)
def test_an_encoded_state_is_decoded(state: SlotState) -> None:
    assert len(slots.encode(state)) == RECORD_BYTES
    assert slots.decode([slots.encode(state), b""]) == state


@given(STATES, STATES)
def test_the_newer_of_two_valid_copies_counts_and_the_older_is_replaced(
    first: SlotState, second: SlotState
) -> None:
    copies = [slots.encode(first), slots.encode(second)]
    newer = first if first.number >= second.number else second
    assert slots.decode(copies) == newer
    if first.number != second.number:
        assert copies[slots.copy_to_write(copies)] != slots.encode(newer)


@given(STATES, INVALID)
def test_a_damaged_copy_is_ignored_and_replaced(state: SlotState, invalid: bytes) -> None:
    for index, copies in enumerate([[invalid, slots.encode(state)], [slots.encode(state), invalid]]):
        assert slots.decode(copies) == state
        assert slots.copy_to_write(copies) == index


@given(INVALID, INVALID)
def test_without_a_valid_copy_the_state_is_that_of_a_new_box(first: bytes, second: bytes) -> None:
    assert slots.decode([first, second]) == slots.UNKNOWN
    assert slots.choose([first, second], [first, second]) == Choice("a")


@given(STATES, STATES, st.integers(0, RECORD_BYTES))
def test_a_torn_record_is_never_a_third_state(before: SlotState, after: SlotState, cut: int) -> None:
    torn = slots.encode(after)[:cut] + slots.encode(before)[cut:]
    if before.number != after.number:
        assert slots.decode([torn, b""]) in {before, after, slots.UNKNOWN}


@pytest.mark.parametrize("number", [8, 9, 10, 99])
@pytest.mark.parametrize("healthy", [True, False])
@pytest.mark.parametrize("tries", [0, 1, 2, 3])
def test_an_update_starts_an_allowed_slot_wherever_it_is_cut(number: int, tries: int, healthy: bool) -> None:
    for step in boot_states.update(boot_states.new(SlotState(number, "a")), tries, healthy=healthy):
        for condition in dict.fromkeys(step.conditions):  # a cut at the start of a write changes nothing
            assert condition.choice.slot in step.allowed, step.name
            for damaged in condition.damaged():
                assert damaged.choice.slot in step.allowed | {"a"}, step.name


@pytest.mark.parametrize("healthy", [True, False])
def test_a_complete_update_starts_the_committed_slot(healthy: bool) -> None:
    steps = boot_states.update(boot_states.new(COMMITTED_A), 2, healthy=healthy)
    after = [step.conditions[-1] for step in steps]
    assert [condition.choice.slot for condition in after] == [*"aa", *"bbb", "b" if healthy else "a"]
    assert after[-1].state == SlotState(10, "b" if healthy else "a")


def test_a_cut_write_can_be_repeated() -> None:
    for step, following in pairwise(boot_states.update(boot_states.new(COMMITTED_A), 1, healthy=True)):
        for condition in step.conditions:
            assert condition.state.committed == "a", (step.name, following.name)
    for condition in step.conditions:
        again = condition.write_state(following.conditions[-1].state)
        assert boot_states.last(again).state == following.conditions[-1].state


def test_a_slot_on_trial_is_started_three_times_and_then_the_committed_slot() -> None:
    now = boot_states.update(boot_states.new(COMMITTED_A), 0, healthy=True)[2].conditions[-1]
    assert now.state.trial == "b"
    for _ in range(slots.TRIES_MAX):
        choice = now.choice
        assert choice.slot == "b"
        assert choice.write is not None
        now = boot_states.last(now.write_tries(*choice.write))
    assert now.choice == Choice("a")


def test_a_cut_while_a_try_is_counted_uses_up_at_most_this_try() -> None:
    now = boot_states.update(boot_states.new(COMMITTED_A), 1, healthy=True)[3].conditions[-1]
    assert now.choice.write is not None
    _, complete = now.choice.write
    *cut, _ = now.write_tries(*now.choice.write)
    for condition in cut:
        assert condition.choice.slot == "b"
        assert condition.choice.write is not None
        assert condition.choice.write[1] in {complete, slots.encode_tries(9, 3)}


def test_a_slot_on_trial_is_started_at_most_three_times_if_copies_of_the_tries_are_destroyed() -> None:
    steps = boot_states.update(boot_states.new(COMMITTED_A), slots.TRIES_MAX, healthy=True)
    tried = steps[-2].conditions[-1]
    assert tried.choice == Choice("a")
    assert {condition.choice.slot for condition in tried.damaged()} == {"a"}


@pytest.mark.parametrize("end", [slots.commit, slots.give_up])
def test_after_a_trial_the_state_is_repeated_so_that_damage_cannot_begin_it_again(
    end: Callable[[SlotState], SlotState],
) -> None:
    started = boot_states.update(boot_states.new(COMMITTED_A), 0, healthy=True)[2].conditions[-1]
    assert slots.state_to_repeat(started.copies) is None
    ended = boot_states.last(started.write_state(end(started.state)))
    again = slots.state_to_repeat(ended.copies)
    assert again is not None
    settled = boot_states.last(ended.write_state(again))
    assert slots.state_to_repeat(settled.copies) is None
    assert {condition.choice for condition in settled.damaged()} == {Choice(again.committed)}


@pytest.mark.parametrize("committed", ["a", "b"])
def test_without_an_update_the_committed_slot_is_started_and_nothing_is_written(
    committed: slots.Slot,
) -> None:
    assert boot_states.new(SlotState(9, committed)).choice == Choice(committed, None)


def test_a_trial_without_a_readable_count_starts_the_committed_slot() -> None:
    trial = slots.encode(slots.begin_trial(COMMITTED_A))
    for tries in (bytes(RECORD_BYTES), slots.encode_tries(8, 0), slots.encode_tries(10, 0), b""):
        assert BootState((trial, trial), (tries, tries)).choice == Choice("a")


def test_a_slot_without_a_kernel_is_not_started() -> None:
    now = boot_states.update(boot_states.new(COMMITTED_A), 0, healthy=True)[2].conditions[-1]
    assert slots.choose(now.copies, now.tries, ["a"]) == Choice("a")
    assert slots.choose(now.copies, (b"", b""), ["b"]) == Choice("b")


def test_the_tries_of_another_trial_are_not_counted() -> None:
    assert slots.tries([slots.encode_tries(8, 3), b""], 9) is None
    assert slots.tries([slots.encode_tries(9, 1), slots.encode_tries(9, 2)], 9) == 2


def test_the_records_are_far_apart_and_inside_the_partition() -> None:
    offsets = sorted([*slots.COPY_OFFSETS, *slots.TRIES_OFFSETS])
    assert all(later - earlier >= 1024 * 1024 for earlier, later in pairwise(offsets))
    assert max(slots.TRIES_OFFSETS) + RECORD_BYTES <= slots.COUNTER_FILES_BYTES <= min(slots.COPY_OFFSETS)
    assert offsets[-1] + RECORD_BYTES <= slots.BOOT_STATE_BYTES


@pytest.mark.parametrize("change", [slots.commit, slots.give_up])
def test_without_a_trial_no_slot_is_committed_or_given_up(change: Callable[[SlotState], SlotState]) -> None:
    with pytest.raises(AssertionError, match="no trial has begun"):
        change(COMMITTED_A)
