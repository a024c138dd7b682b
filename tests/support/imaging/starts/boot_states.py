"""The records of the partition `boot-state` in every condition that an interrupted or failing write can leave.

Every write of an update or of the boot loader is left undone, torn and completed; in each of these conditions, each
copy is also destroyed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from settings import slots
from settings.slots import RECORD_BYTES, Slot, SlotState

SECTOR: Final = 512
TEARS: Final = (*range(32, RECORD_BYTES, 32), 26, 31, 33, 37, 966, 970, 972)
"""Offsets at which the write of a record is torn: every 32 bytes, and some inside and at the ends of its lines."""


@dataclass(frozen=True)
class BootState:
    """The content of the partition `boot-state`: both copies of the slot state and of the tries."""

    copies: tuple[bytes, bytes]
    tries: tuple[bytes, bytes]

    @property
    def choice(self) -> slots.Choice:
        """The decision of the boot loader."""
        return slots.choose(self.copies, self.tries)

    @property
    def state(self) -> SlotState:
        return slots.decode(self.copies)

    def write_state(self, state: SlotState) -> Iterator[BootState]:
        """Yield the conditions that a write of the state passes through; the last is the complete one."""
        index = slots.copy_to_write(self.copies)
        for copy in _during(self.copies[index], slots.encode(state)):
            yield replace(self, copies=_with(self.copies, index, copy))

    def write_tries(self, index: int, record: bytes) -> Iterator[BootState]:
        """Yield the conditions that a write of one copy of the tries passes through; the last is the complete one."""
        for copy in _during(self.tries[index], record):
            yield replace(self, tries=_with(self.tries, index, copy))

    def damaged(self) -> Iterator[BootState]:
        """Yield this state with each copy destroyed in several ways."""
        for index in (0, 1):
            for copy in _destroyed(self.copies[index]):
                yield replace(self, copies=_with(self.copies, index, copy))
            for copy in _destroyed(self.tries[index]):
                yield replace(self, tries=_with(self.tries, index, copy))
        yield replace(self, tries=(bytes(RECORD_BYTES), bytes(RECORD_BYTES)))
        yield replace(self, tries=(slots.encode_tries(0, 0), slots.encode_tries(0, 0)))


def new(state: SlotState = slots.UNKNOWN) -> BootState:
    """Return the content of a newly flashed disk."""
    record, tries = slots.encode(state), slots.encode_tries(0, 0)
    return BootState((record, record), (tries, tries))


def last(conditions: Iterable[BootState]) -> BootState:
    """Return the last of the conditions: the one after the completed write."""
    *_, final = conditions
    return final


@dataclass(frozen=True)
class Step:
    """One write: the conditions that it passes through, and the slots that the boot loader may choose in them."""

    name: str
    conditions: list[BootState]
    allowed: frozenset[Slot]


def update(start: BootState, tries: int, *, healthy: bool) -> list[Step]:
    """Return the writes of an update: the trial begins, is tried `tries` times, and is committed or given up."""
    steps: list[Step] = []
    now = start
    old, trial = start.state.committed, slots.begin_trial(start.state)
    fresh = slots.encode_tries(trial.number, 0)
    only_old, both = frozenset({old}), frozenset({old, slots.other(old)})

    def add(name: str, conditions: Iterable[BootState], allowed: frozenset[Slot]) -> None:
        nonlocal now
        steps.append(Step(name, list(conditions), allowed))
        now = steps[-1].conditions[-1]

    for index in (0, 1):
        add(f"clear tries {index}", now.write_tries(index, fresh), only_old)
    add("begin", now.write_state(trial), both)
    for number in range(tries):
        write = now.choice.write
        assert write is not None, "the boot loader counts each try"
        add(f"try {number + 1}", now.write_tries(*write), both)
    if healthy:
        add("commit", now.write_state(slots.commit(trial)), both)
    else:
        add("give up", now.write_state(slots.give_up(trial)), both if tries < slots.TRIES_MAX else only_old)
    return steps


def _during(before: bytes, after: bytes) -> Iterator[bytes]:
    yield before
    yield before[:SECTOR] + after[SECTOR:]
    for cut in TEARS:
        yield after[:cut] + before[cut:]
    yield after


_OTHER_BYTES = bytes(byte ^ 0x10 for byte in range(256))


def _destroyed(copy: bytes) -> Iterator[bytes]:
    yield bytes(RECORD_BYTES)
    yield b"\xff" * RECORD_BYTES
    yield bytes(SECTOR) + copy[SECTOR:]
    yield copy[:SECTOR] + bytes(SECTOR)
    yield copy.translate(_OTHER_BYTES)
    line = copy.index(b"first=") + 6
    yield copy[:line] + bytes([copy[line] ^ 1]) + copy[line + 1 :]


def _with(copies: tuple[bytes, bytes], index: int, copy: bytes) -> tuple[bytes, bytes]:
    return (copy, copies[1]) if index == 0 else (copies[0], copy)


def distinct(steps: Iterable[Step]) -> list[BootState]:
    """Return the different conditions of all steps, in order."""
    return list(dict.fromkeys(condition for step in steps for condition in step.conditions))
