"""The columnar form of a batch, which makes the readings of sensors smaller on a slow uplink.

Readings contain noise, so that no two statuses are equal, and a general compressor finds hardly any repetitions: it
spends more bits on the positions of a few different digits than on the digits. In the columnar form the statuses of
an instrument are a group, and each of their numbers is a column (`wire.rice`). Other reports are not transformed. The
form is only another encoding: `Unpacker` returns the bytes of the `Batch` that `Packer` received, which are decoded
and checked as usual. A batch that would not be restored exactly, or has no status, is stored verbatim.

Both ends keep the groups and the state of their columns from batch to batch, like the compressed stream in which the
packed batches are sent. The first byte of a packed batch states its form: VERBATIM precedes the batch
itself, COLUMNS a `PackedBatch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from wire.messages import READINGS_PER_REPORT_MAX, RECORDS_PER_BATCH_MAX, STATES
from wire.rice import BitReader, Chooser, Column, Parameters, RiceError, bits_to_bytes

VERBATIM: Final = b"\x00"
COLUMNS: Final = b"\x01"
GROUPS_MAX: Final = 64
"""Maximum number of groups in one stream; they need at most 1 MB of memory. Other statuses are verbatim."""
NAME_CHARACTERS_MAX: Final = 48
"""The longest name of an instrument or a channel. Each status of a group repeats the names, so that this bounds the
size of an unpacked batch: 2.1 MB of names and numbers."""
_OTHER: Final = 255
"""The group number of records that are in no group."""
_FIXED: Final = 3
"""Number of columns of each group before those of its channels: number, time, samples."""
_SAMPLES: Final = 2
"""The column of the number of samples: other counts change only with it, so it is the gate of the channels."""


Name: TypeAlias = Annotated[str, Meta(max_length=NAME_CHARACTERS_MAX)]


class ColumnsError(ValueError):
    """The bytes are not a packed batch of this stream."""


class StatusGroup(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The statuses of one run of one instrument that have the same channels in the same order.

    `first` has the values of its columns in its first status.
    """

    instrument: Name
    run: int
    channels: Annotated[tuple[Name, ...], Meta(max_length=READINGS_PER_REPORT_MAX)]
    first: Annotated[tuple[int, ...], Meta(max_length=READINGS_PER_REPORT_MAX + _FIXED)]


class Changed(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """New parameters of a column of a group."""

    group: int
    column: int
    parameters: Parameters


class PackedBatch(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A batch in columns."""

    epoch: int
    after: int
    members: Annotated[bytes, Meta(min_length=1, max_length=RECORDS_PER_BATCH_MAX)]
    """For each record the number of its group, or _OTHER."""
    states: bytes
    """The state in each status of a group, as an index of `STATES`, in the order of the records."""
    steps: list[int]
    """The step of each record; empty if all are 1."""
    others: list[msgspec.Raw]
    """The entries that are in no group."""
    groups: Annotated[list[StatusGroup], Meta(max_length=GROUPS_MAX)]
    """New groups, whose first statuses are in this batch."""
    changed: list[Changed]
    bits: bytes
    """The encoded columns, those of the first group first."""


_Key: TypeAlias = tuple[str, int, tuple[str, ...]]
_decode_packed: Final = msgspec.msgpack.Decoder(PackedBatch).decode
_decode_any: Final = msgspec.msgpack.Decoder().decode
_encode: Final = msgspec.msgpack.Encoder().encode


class Packer:
    """The sender's state of one stream."""

    def __init__(self) -> None:
        self._groups: dict[_Key, int] = {}
        self._columns: list[list[Column]] = []
        self._choosers: list[list[Chooser]] = []

    def pack(self, batch: bytes) -> bytes:
        """Pack the next batch of the stream."""
        try:
            epoch, after, records = content = _decode_any(batch)
            keys = [_key(entry) for _, entry in records]
            are_numbers = all(
                type(number) is int for number in (epoch, after, *(step for step, _ in records))
            )
            if not (
                any(keys) and are_numbers and len(keys) <= RECORDS_PER_BATCH_MAX and _encode(content) == batch
            ):
                return VERBATIM + batch
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, TypeError, OverflowError):
            return VERBATIM + batch
        return COLUMNS + _encode(self._packed(epoch, after, records, keys))

    def _packed(self, epoch: int, after: int, records: list[Any], keys: list[_Key | None]) -> PackedBatch:
        rows: dict[int, list[tuple[int, ...]]] = {}
        new_groups: list[StatusGroup] = []
        members, states, others = bytearray(), bytearray(), []
        for (_, entry), key in zip(records, keys, strict=True):
            index = self._group_index(key, entry, new_groups)
            members.append(index)
            if index == _OTHER:
                others.append(msgspec.Raw(_encode(entry)))
                continue
            _, _, (_, number, at_ms, state, samples, readings) = entry
            states.append(STATES.index(state))
            rows.setdefault(index, []).append((number, at_ms, samples, *readings.values()))
        steps = [step for step, _ in records]
        changed, bits = self._encode_columns(rows)
        return PackedBatch(
            epoch,
            after,
            bytes(members),
            bytes(states),
            [] if steps == [1] * len(steps) else steps,
            others,
            new_groups,
            changed,
            bits,
        )

    def _group_index(self, key: _Key | None, entry: Any, new_groups: list[StatusGroup]) -> int:
        """Return the index of the entry's group, which its first status creates; _OTHER if it has none."""
        if key is None:
            return _OTHER
        index = self._groups.get(key, _OTHER)
        if index == _OTHER and len(self._groups) < GROUPS_MAX:
            _, _, (_, number, at_ms, _, samples, readings) = entry
            group = StatusGroup(*key, (number, at_ms, samples, *readings.values()))
            index = self._groups[key] = len(self._groups)
            columns = [Column(value) for value in group.first]
            self._columns.append(columns)
            self._choosers.append([Chooser(column) for column in columns])
            new_groups.append(group)
        return index

    def _encode_columns(self, rows: dict[int, list[tuple[int, ...]]]) -> tuple[list[Changed], bytes]:
        changed, bits = [], []
        for group in sorted(rows):
            columns = list(zip(*rows[group], strict=True))
            gate = _changes(self._columns[group][_SAMPLES].latest, columns[_SAMPLES])
            for index, values in enumerate(columns):
                column, chooser = self._columns[group][index], self._choosers[group][index]
                gated_by = gate if index > _SAMPLES else ()
                parameters = chooser.choose(values, gated_by)
                if parameters != column.parameters:
                    column.change(parameters)
                    changed.append(Changed(group, index, parameters))
                bits.append(column.encode(values, gated_by))
        return changed, bits_to_bytes("".join(bits))


class Unpacker:
    """The receiver's state of one stream; unusable after an error."""

    def __init__(self) -> None:
        self._groups: list[StatusGroup] = []
        self._columns: list[list[Column]] = []

    def unpack(self, packed: bytes) -> bytes:
        """Return the batch. Raises: ColumnsError."""
        form, rest = packed[:1], packed[1:]
        if form in (VERBATIM, b""):
            return rest
        if form != COLUMNS:
            raise ColumnsError("the batch has an unknown form")
        try:
            return _encode(self._batch(_decode_packed(rest)))
        except (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RiceError) as error:
            raise ColumnsError(f"not a batch in columns: {error}") from None
        except (IndexError, StopIteration):
            raise ColumnsError("not a batch in columns: it refers to data that it does not contain") from None

    def _batch(self, packed: PackedBatch) -> tuple[int, int, list[Any]]:
        for group in packed.groups:
            self._add(group)
        for change in packed.changed:
            self._columns[change.group][change.column].change(change.parameters)
        bits = BitReader(packed.bits)
        rows = {}
        for index in sorted({*packed.members} - {_OTHER}):
            rows[index] = zip(*self._decode_columns(index, packed.members.count(index), bits), strict=True)
        states, others = iter(packed.states), iter(packed.others)
        steps = packed.steps or [1] * len(packed.members)
        records: list[Any] = []
        for step, index in zip(steps, packed.members, strict=True):
            if index == _OTHER:
                records.append((step, next(others)))
            else:
                records.append((step, _entry(self._groups[index], next(rows[index]), STATES[next(states)])))
        return packed.epoch, packed.after, records

    def _decode_columns(self, group: int, count: int, bits: BitReader) -> Iterator[list[int]]:
        gate: list[bool] = []
        for index, column in enumerate(self._columns[group]):
            latest = column.latest
            values = column.decode(bits, count, gate)
            if index == _SAMPLES:
                gate = _changes(latest, values)
            yield values

    def _add(self, group: StatusGroup) -> None:
        if len(self._groups) == GROUPS_MAX or len(group.first) != len(group.channels) + _FIXED:
            raise ColumnsError("not a batch in columns: a group is invalid, or there are too many")
        self._groups.append(group)
        self._columns.append([Column(value) for value in group.first])


def _changes(latest: int, values: Sequence[int]) -> list[bool]:
    """Return whether each value differs from the previous one."""
    return [value != previous for value, previous in zip(values, (latest, *values), strict=False)]


def _key(entry: Any) -> _Key | None:
    """Return the key of an entry's group; None if the entry cannot be in a group, such as an alert."""
    instrument, run, body = entry
    if type(instrument) is not str or len(body) != 6 or body[0] != "status" or body[3] not in STATES:
        return None
    readings = body[5]
    numbers = (run, body[1], body[2], body[4], *readings.values())
    if not all(type(number) is int for number in numbers) or len(readings) > READINGS_PER_REPORT_MAX:
        return None
    if max(map(len, (instrument, *readings))) > NAME_CHARACTERS_MAX:
        return None
    return instrument, run, tuple(readings)


def _entry(group: StatusGroup, row: tuple[int, ...], state: str) -> tuple[Any, ...]:
    number, at_ms, samples = row[:_FIXED]
    readings = dict(zip(group.channels, islice(row, _FIXED, None), strict=True))
    return group.instrument, group.run, ("status", number, at_ms, state, samples, readings)
