"""The slot state: which of two root file systems the boot loader starts, and how often it tries a new one.

A box has two root partitions, slot a and slot b. One of them is committed: it has started and was found healthy. An
update writes the other one and begins a trial of it, which ends with a commit or is given up. The raw partition
`boot-state` stores two kinds of records, each twice, with at least 1 MiB between any two:

- The state, written by Linux: a number that grows with each write, the committed slot, and the slot on trial.
- The tries, written by GRUB before it starts a slot on trial: the number of the state that began the trial, and a
  count. Linux writes them only to begin a trial, before the state.

A record is an environment block of GRUB, as `load_env` reads it and `save_env` writes it: two sectors, with the same
line at the beginning of the first and near the end of the second. A record whose two lines are equal is whole: a
write that was interrupted anywhere, also inside a sector, leaves two different numbers or counts. A writer replaces
the older or damaged copy, so that the other one stays whole.

`choose` states the decision that the boot loader makes (`imaging.build.boot.bootloader` has GRUB's script).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

Slot: TypeAlias = Literal["a", "b"]

PARTITIONS: Final[dict[Slot, str]] = {"a": "root-a", "b": "root-b"}
"""The name of each slot's partition in the GPT."""
BOOT_STATE: Final = "boot-state"
"""The name of the partition with the records."""
_MIB: Final = 1024 * 1024
BOOT_STATE_BYTES: Final = 8 * _MIB
COUNTER_FILES_BYTES: Final = 4 * _MIB
"""The beginning of the partition is a file system with GRUB's records as files: `save_env` writes only into files."""
TRIES_OFFSETS: Final = (1 * _MIB, 3 * _MIB)
"""The offsets of the two copies of the tries in the partition, in bytes."""
COPY_OFFSETS: Final = (5 * _MIB, 7 * _MIB)
"""The offsets of the two copies of the state in the partition, in bytes."""
RECORD_BYTES: Final = 1024
TRIES_MAX: Final = 3
NUMBER_MAX: Final = 999_999_999

SIGNATURE: Final = b"# GRUB Environment Block\n"
STATE_PATTERN: Final = "(0|[1-9][0-9]{0,8})-([ab])-([abn])"
"""Number, committed slot, slot on trial or "n"; for Python and for GRUB's `regexp`."""
TRIES_PATTERN: Final = "(0|[1-9][0-9]{0,8})-([0-9])"
"""Number of the state that began the trial, count."""
FIRST, LAST = "first", "last"
"""The names of the lines at the beginning and at the end of a record, which have the same value."""
_END_BYTES: Final = 64
"""Offset of the last line from the end, in bytes."""


@dataclass(frozen=True)
class SlotState:
    """The committed slot, and the other one while it is on trial; `number` grows with each write."""

    number: int
    committed: Slot
    trial: Slot | None = None


UNKNOWN: Final = SlotState(0, "a")
"""The state if no copy is valid, as on a box that was never updated."""


@dataclass(frozen=True)
class Choice:
    """The slot to start, and the record that counts this try: index of the copy and its content."""

    slot: Slot
    write: tuple[int, bytes] | None = None


def other(slot: Slot) -> Slot:
    """Return the other slot."""
    return "b" if slot == "a" else "a"


def begin_trial(state: SlotState) -> SlotState:
    """Return the state that lets the boot loader try the slot that is not committed, at most `TRIES_MAX` times.

    Both copies of the tries (`encode_tries` with the new number and 0) must be durable before this state is written.
    """
    assert state.trial is None, f"{state}: a trial has begun already"
    return replace(state, number=_next(state), trial=other(state.committed))


def commit(state: SlotState) -> SlotState:
    """Return the state after the slot on trial was found healthy."""
    assert state.trial is not None, f"{state}: no trial has begun"
    return SlotState(_next(state), state.trial)


def give_up(state: SlotState) -> SlotState:
    """Return the state after a trial that failed: the committed slot remains."""
    assert state.trial is not None, f"{state}: no trial has begun"
    return SlotState(_next(state), state.committed)


def encode(state: SlotState) -> bytes:
    """Return the record of a state, `RECORD_BYTES` long."""
    return _record(f"{state.number}-{state.committed}-{state.trial or 'n'}")


def encode_tries(number: int, count: int) -> bytes:
    """Return the record of the tries in the trial that the state `number` began."""
    assert 0 <= count <= TRIES_MAX, f"{count} tries"
    return _record(f"{number}-{count}")


def decode(copies: Sequence[bytes]) -> SlotState:
    """Return the state of the newest whole copy, or `UNKNOWN`. A copy that cannot be read is given as b""."""
    return max(
        (state for state in map(_state, copies) if state), key=lambda each: each.number, default=UNKNOWN
    )


def copy_to_write(copies: Sequence[bytes]) -> int:
    """Return the index of the copy that the next write replaces: a damaged one, else the older one."""
    numbers = [state.number if (state := _state(copy)) else -1 for copy in copies]
    return 0 if numbers[0] < numbers[1] else 1


def state_to_repeat(copies: Sequence[bytes]) -> SlotState | None:
    """Return the state to write again, or None if both copies name the same slots or a trial has begun.

    After the end of a trial one copy still has the trial. Until it is replaced, damage of the other copy would
    begin that trial again.
    """
    state = decode(copies)
    if state.trial or all(
        each and each.committed == state.committed and not each.trial for each in map(_state, copies)
    ):
        return None
    return replace(state, number=_next(state))


def tries(copies: Sequence[bytes], number: int) -> int | None:
    """Return the count of tries in the trial that the state `number` began, or None if no copy contains it.

    If one copy does not contain it, one more try is counted: a try whose record was damaged later may have started.
    """
    counts = _counts(copies, number)
    return max(counts) + (min(counts) < 0) if max(counts) >= 0 else None


def choose(
    copies: Sequence[bytes], tries_copies: Sequence[bytes], startable: Sequence[Slot] = ("a", "b")
) -> Choice:
    """Return the slot that the boot loader starts, by the copies of the state and of the tries.

    `startable` are the slots whose kernel and initramfs can be read. The slot on trial is started if its try can be
    counted; a trial without a readable count, or with a used-up one, starts the committed slot. If that one cannot
    be read, the other one is started.
    """
    state = decode(copies)
    count = tries(tries_copies, state.number)
    if (
        state.trial in startable
        and state.trial != state.committed
        and count is not None
        and count < TRIES_MAX
    ):
        assert state.trial is not None
        counts = _counts(tries_copies, state.number)
        return Choice(state.trial, (0 if counts[0] < counts[1] else 1, encode_tries(state.number, count + 1)))
    return Choice(state.committed if state.committed in startable else other(state.committed))


def _counts(copies: Sequence[bytes], number: int) -> list[int]:
    """Return the count of each copy of the tries, or -1 if it is damaged or of another trial."""
    matches = [re.fullmatch(TRIES_PATTERN, _value(copy)) for copy in copies]
    return [int(match[2]) if match and int(match[1]) == number else -1 for match in matches]


def _state(copy: bytes) -> SlotState | None:
    match = re.fullmatch(STATE_PATTERN, _value(copy))
    if match is None:
        return None
    slots: dict[str, Slot] = {"a": "a", "b": "b"}
    return SlotState(int(match[1]), slots[match[2]], slots.get(match[3]))


def _record(value: str) -> bytes:
    begin = SIGNATURE + f"{FIRST}={value}\n".encode()
    end = f"{LAST}={value}\n".encode().ljust(_END_BYTES, b"#")
    return begin.ljust(RECORD_BYTES - len(end) - 1, b"#") + b"\n" + end


def _value(copy: bytes) -> str:
    """Return the value of a record, or "" if it is not whole. If a name is repeated, the last line counts."""
    if len(copy) != RECORD_BYTES or not copy.startswith(SIGNATURE):
        return ""
    lines = copy[len(SIGNATURE) :].split(b"\n")[:-1]
    values = dict(line.split(b"=", 1) for line in lines if b"=" in line and not line.startswith(b"#"))
    first, last = values.get(FIRST.encode(), b""), values.get(LAST.encode(), b"")
    return first.decode("ascii", "replace") if first == last else ""


def _next(state: SlotState) -> int:
    assert state.number < NUMBER_MAX, "the state's number is used up"
    return state.number + 1
