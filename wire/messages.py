"""The messages, as allow-lists.

Everything is a MessagePack array whose elements are named by a `msgspec.Struct`: the order of the fields is the
format. An element too many, a word outside `wire.vocabulary` or a number out of range is refused by the decoder
itself, before any other code sees it.

    instrument --Reports--> box --Batch--> data center
    instrument <-Receipt--- box <-BatchReply- data center

The box keeps and forwards an `Entry` exactly as it encoded it when it acknowledged it.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from wire.vocabulary import Assay, Channel, Component, Outcome, Severity, State, Verb

TIME_PATH: Final = "/v1/time"
"""Where a box asks the data center for the time, which every answer has in `Date`."""
REPORTS_PER_POST_MAX: Final = 64
REPORTS_BODY_BYTES_MAX: Final = 64 * 1024
READINGS_PER_REPORT_MAX: Final = 32
ENTRY_BYTES_MAX: Final = 2048
RECORDS_PER_BATCH_MAX: Final = 1024
BATCH_BYTES_MAX: Final = 512 * 1024
"""A batch before compression."""
BATCH_BODY_BYTES_MAX: Final = 128 * 1024
"""A batch as it travels, compressed."""
COMMANDS_PER_REPLY_MAX: Final = 16
COMMAND_BODY_BYTES_MAX: Final = 32 * 1024
REPLY_BYTES_MAX: Final = COMMANDS_PER_REPLY_MAX * (COMMAND_BODY_BYTES_MAX + 128) + 64

INT_MAX: Final = 2**53 - 1
"""The largest integer anywhere: what every language's JSON and double can hold."""

Number: TypeAlias = Annotated[int, Meta(ge=1, le=INT_MAX)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=INT_MAX)]
Value: TypeAlias = Annotated[int, Meta(ge=-INT_MAX, le=INT_MAX)]
TimeMs: TypeAlias = Annotated[int, Meta(ge=0, le=INT_MAX)]
"""Milliseconds since 1970-01-01T00:00:00Z by the reporter's own clock."""
RUN_MAX: Final = 2**32 - 1
Run: TypeAlias = Annotated[int, Meta(ge=0, le=RUN_MAX)]
"""Which life of the instrument's agent a report's number belongs to; each life has a higher one than those before."""
NEXT_RUN: Final = "next-run"
"""Header of a 409 to `Reports`: the run under which the box will accept them."""
Code: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Z][0-9]{4}\Z")]


class Message(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """Common form of all messages: a MessagePack array, frozen, with nothing unknown in it."""


class Report(Message, frozen=True):
    """What an instrument's agent says; numbered from 1 within a run, never twice the same number."""

    number: Number
    at_ms: TimeMs


class Status(Report, frozen=True, tag="status"):
    """How the instrument is: its state, the samples of this run, and its readings."""

    state: State
    samples: Count
    readings: Annotated[dict[Channel, Value], Meta(max_length=READINGS_PER_REPORT_MAX)]


class Inventory(Report, frozen=True, tag="inventory"):
    """Tests left on board, by assay."""

    tests_left: Annotated[dict[Assay, Count], Meta(max_length=READINGS_PER_REPORT_MAX)]


class Quality(Report, frozen=True, tag="quality"):
    """One quality-control measurement: how far from its target, in thousandths of its standard deviation."""

    assay: Assay
    level: Annotated[int, Meta(ge=1, le=3)]
    deviation_msd: Value


class Calibration(Report, frozen=True, tag="calibration"):
    """One calibration: its slope against the nominal and its offset, in parts per million; whether it stood."""

    assay: Assay
    slope_ppm: Value
    offset_ppm: Value
    accepted: bool


class Alert(Report, frozen=True, tag="alert"):
    """Something needs a person: an error code of a component, how bad, and the reading that caused it."""

    code: Code
    component: Component
    severity: Severity
    value: Value | None = None


class CommandResult(Report, frozen=True, tag="result"):
    """What became of a command."""

    command: Number
    outcome: Outcome


class Gap(Message, frozen=True, tag="gap"):
    """Audit: sequence numbers that will not come, and why.

    `disk-full` and `corrupt` records are lost; those `unfinished` at a crash were not acknowledged to anybody,
    `unused` numbers never had a record, and `refused` is what the data center would not take.
    """

    at_ms: TimeMs
    reason: Annotated[str, Meta(pattern=r"^(disk-full|corrupt|unfinished|unused|refused)\Z")]
    records: Count
    ranges: Annotated[tuple[tuple[Number, Number], ...], Meta(max_length=64)]


class Audit(Message, frozen=True, tag="audit"):
    """Audit: something that happened to the box itself, from its own short list of words."""

    at_ms: TimeMs
    event: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,47}\Z")]
    port: Annotated[int, Meta(ge=0, le=64)] = 0
    value: Value = 0


InstrumentReport: TypeAlias = Status | Inventory | Quality | Calibration | Alert | CommandResult
BoxReport: TypeAlias = Gap | Audit


class Entry(Message, frozen=True):
    """What the box keeps for one report, and the unit of forwarding; `instrument` is empty for the box's own."""

    instrument: Annotated[str, Meta(pattern=r"^([A-Z0-9][A-Z0-9-]{0,23})?\Z")]
    run: Run
    body: InstrumentReport | BoxReport


class Reports(Message, frozen=True):
    """Instrument → box: reports of one run, oldest first."""

    run: Run
    reports: Annotated[list[InstrumentReport], Meta(min_length=1, max_length=REPORTS_PER_POST_MAX)]


class Command(Message, frozen=True):
    """Data center → box → instrument; `instrument` is empty for the box itself. Repeated until its result came."""

    id: Number
    instrument: Annotated[str, Meta(pattern=r"^([A-Z0-9][A-Z0-9-]{0,23})?\Z")]
    verb: Verb
    body: Annotated[bytes, Meta(max_length=COMMAND_BODY_BYTES_MAX)] = b""


Commands: TypeAlias = Annotated[list[Command], Meta(max_length=COMMANDS_PER_REPLY_MAX)]


class Receipt(Message, frozen=True):
    """Box → instrument: all reports of the request are durable on the box; commands that wait."""

    accepted: Count
    commands: Commands = []


class Record(Message, frozen=True):
    """One entry of a batch: its sequence less that of the record before it, and the entry."""

    step: Number
    entry: Entry


class Batch(Message, frozen=True):
    """Box → data center: records of one epoch by rising sequence; the first's is `after + step`."""

    epoch: Run
    after: Count
    records: Annotated[list[Record], Meta(min_length=1, max_length=RECORDS_PER_BATCH_MAX)]


class BatchReply(Message, frozen=True):
    """Data center → box: the whole batch is committed; how many of its records were new; commands that wait."""

    stored: Count
    commands: Commands = []


class BatchRefusal(Message, frozen=True, tag="refusal"):
    """Data center → box: nothing of the batch is stored, because of this one record, which it cannot read."""

    epoch: Run
    sequence: Number


class _Sealed(Message, frozen=True):
    """A `Record` of which the entry has not been looked at."""

    step: Number
    entry: msgspec.Raw


class _SealedBatch(Message, frozen=True):
    """A `Batch` of them."""

    epoch: Run
    after: Count
    records: Annotated[list[_Sealed], Meta(min_length=1, max_length=RECORDS_PER_BATCH_MAX)]


class MessageError(Exception):
    """The bytes are not the message they should be; the text says what is wrong and where."""


_M = TypeVar("_M", bound=Message)
_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type[Message], msgspec.msgpack.Decoder[Message]] = {}


def encode(message: Message) -> bytes:
    """The message's bytes; the same bytes for an equal message."""
    return _encoder.encode(message)


def decode(kind: type[_M], data: bytes | memoryview) -> _M:
    """The message of `kind` in `data`. Raises MessageError with the path of the first wrong element."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        return decoder.decode(data)  # type: ignore[return-value]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MessageError(str(error)) from None


def encode_batch(epoch: int, records: list[tuple[int, bytes]]) -> bytes:
    """A `Batch` from (sequence, encoded entry) pairs by rising sequence, without decoding the entries."""
    previous = after = records[0][0] - 1
    steps = []
    for sequence, entry in records:
        steps.append((sequence - previous, msgspec.Raw(entry)))
        previous = sequence
    return _encoder.encode((epoch, after, steps))


def refusal(data: bytes) -> BatchRefusal | None:
    """Which record is to blame that `data` is no `Batch`: the first that is none itself. None if no record is."""
    try:
        sealed = decode(_SealedBatch, data)
    except MessageError:
        return None
    sequence = sealed.after
    for record in sealed.records:
        sequence += record.step
        try:
            decode(Entry, record.entry)
        except MessageError:
            return BatchRefusal(sealed.epoch, sequence)
    return None


def sequences(batch: Batch) -> list[int]:
    """The sequence number of each record of the batch."""
    sequence, result = batch.after, []
    for record in batch.records:
        sequence += record.step
        result.append(sequence)
    return result
