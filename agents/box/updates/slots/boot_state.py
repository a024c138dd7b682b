"""Reads and writes the boot loader's slot state in its raw partition (`settings.slots`). Calls block.

Each write is flushed, read back and compared before the next one begins.
"""

from __future__ import annotations

from agents.box.updates.table import Started
from hal.disk import DiskError, DiskErrorKind
from hal.partition import Partition
from settings import slots
from settings.slots import RECORD_BYTES, Slot, SlotState


class BootStatePartition:
    """The slot state of a machine."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    def read(self) -> SlotState:
        """Return the slot state; `slots.UNKNOWN` if no copy is valid. Raises: DiskError UNAVAILABLE."""
        return slots.decode(self._copies(slots.COPY_OFFSETS))

    def after_start(self, running: Slot, target: Slot) -> Started:
        """Return the situation of the slot `target`, which an update has written, after a start from `running`.

        Raises: DiskError UNAVAILABLE.
        """
        state = self.read()
        return Started(
            is_in_target=running == target,
            committed_to_target=state.committed == target,
            trial_of_target=state.trial == target,
            is_state_lost=state == slots.UNKNOWN,
            tries=slots.tries(self._copies(slots.TRIES_OFFSETS), state.number),
        )

    def settle(self, slot: Slot) -> None:
        """Commit `slot` and end a trial, unless this is the state already; both copies contain it on return.

        Raises: DiskError.
        """
        state = self.read()
        if state == slots.UNKNOWN or state.trial is not None or state.committed != slot:
            self._write(SlotState(state.number + 1, slot))
        if (repeated := slots.state_to_repeat(self._copies(slots.COPY_OFFSETS))) is not None:
            self._write(repeated)

    def begin_trial(self, slot: Slot) -> None:
        """Let the boot loader try `slot`, which is not the committed one. Raises: DiskError."""
        state = self.read()
        if state.trial == slot:
            return
        self.settle(slots.other(slot))
        begun = slots.begin_trial(self.read())
        assert begun.trial == slot, f"{begun}: slot {slot} is committed"
        for offset in slots.TRIES_OFFSETS:
            self._write_record(offset, slots.encode_tries(begun.number, 0))
        self._write(begun)

    def _write(self, state: SlotState) -> None:
        copy = slots.copy_to_write(self._copies(slots.COPY_OFFSETS))
        self._write_record(slots.COPY_OFFSETS[copy], slots.encode(state))

    def _write_record(self, offset: int, record: bytes) -> None:
        self._partition.write(offset, record)
        self._partition.flush()
        if self._partition.read(offset, RECORD_BYTES) != record:
            raise DiskError(DiskErrorKind.IO, f"the slot state at {offset} was not read back as written")

    def _copies(self, offsets: tuple[int, ...]) -> list[bytes]:
        return [self._copy(offset) for offset in offsets]

    def _copy(self, offset: int) -> bytes:
        try:
            return self._partition.read(offset, RECORD_BYTES)
        except DiskError as error:
            if error.kind is DiskErrorKind.UNAVAILABLE:
                raise
            return b""
