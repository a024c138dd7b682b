"""The messages between instrument, box and data center; their fields are allow-lists.

Every message is a MessagePack array whose elements are described by a `msgspec.Struct`: the order of the fields is
the wire format. The decoder refuses extra elements, texts that do not have the form of a word, and numbers out of
range, so that no other code receives them. The words that an instrument may use are in its profile (`wire.profiles`).

    instrument --Reports--> box --Batch--> data center
    instrument <-Receipt--- box <-BatchReply- data center

The box stores and forwards an `Entry` exactly as encoded when it was acknowledged.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct

from settings.profile import Code, Model, Severity, Verb, Word
from settings.types import Serial

TIME_PATH: Final = "/v1/time"
"""A box requests the time here; every response has it in `Date`."""
REPORTS_PER_POST_MAX: Final = 64
REPORTS_BODY_BYTES_MAX: Final = 64 * 1024
READINGS_PER_REPORT_MAX: Final = 32
ENTRY_BYTES_MAX: Final = 2048
LOG_LINE_BYTES_MAX: Final = 1536
RECORDS_PER_BATCH_MAX: Final = 1024
BATCH_BYTES_MAX: Final = 512 * 1024
"""Maximum size of a batch before compression."""
BATCH_BODY_BYTES_MAX: Final = 128 * 1024
"""Maximum size of a compressed batch, as sent."""
COMMANDS_PER_REPLY_MAX: Final = 16
COMMAND_BODY_BYTES_MAX: Final = 32 * 1024
REPLY_BYTES_MAX: Final = (
    COMMANDS_PER_REPLY_MAX * (COMMAND_BODY_BYTES_MAX + 128) + 9 * REPORTS_PER_POST_MAX + 64
)

INT_MAX: Final = 2**53 - 1
"""The largest integer in any message: 64-bit floating-point numbers, as in JSON, represent it exactly."""

Number: TypeAlias = Annotated[int, Meta(ge=1, le=INT_MAX)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=INT_MAX)]
Value: TypeAlias = Annotated[int, Meta(ge=-INT_MAX, le=INT_MAX)]
TimeMs: TypeAlias = Annotated[int, Meta(ge=0, le=INT_MAX)]
"""Milliseconds since 1970-01-01T00:00:00Z by the sender's own clock."""
RUN_MAX: Final = 2**32 - 1
Run: TypeAlias = Annotated[int, Meta(ge=0, le=RUN_MAX)]
"""The run of the instrument's agent that numbered a report; each run has a higher number than earlier ones."""
NEXT_RUN: Final = "next-run"
"""Header of a 409 response to `Reports`: the run under which the box will accept them."""
Channel: TypeAlias = Word
Assay: TypeAlias = Word
Component: TypeAlias = Word
State: TypeAlias = Literal["idle", "running", "calibrating", "maintenance", "stopped"]
STATES: Final[tuple[State, ...]] = get_args(State)
Outcome: TypeAlias = Literal["done", "refused", "failed", "unknown", "withdrawn"]
Step: TypeAlias = Literal["delivered", "executing"]
UpdateWord: TypeAlias = Literal[
    "accepted", "fetched", "applied", "restarting", "committed", "returned", "refused", "failed"
]
UPDATE_WORDS: Final[tuple[UpdateWord, ...]] = get_args(UpdateWord)


class Message(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """Base of all messages: a frozen MessagePack array without unknown elements."""


class Report(Message, frozen=True):
    """A report of an instrument's agent, numbered from 1 within a run; no number is used twice."""

    number: Number
    at_ms: TimeMs


class Status(Report, frozen=True, tag="status"):
    """State of the instrument: its state, the number of samples in this run, and sensor readings."""

    state: State
    samples: Count
    readings: Annotated[dict[Channel, Value], Meta(max_length=READINGS_PER_REPORT_MAX)]


class Inventory(Report, frozen=True, tag="inventory"):
    """Tests left on board, by assay."""

    tests_left: Annotated[dict[Assay, Count], Meta(max_length=READINGS_PER_REPORT_MAX)]


class Quality(Report, frozen=True, tag="quality"):
    """A quality-control measurement: its deviation from the target in thousandths of a standard deviation."""

    assay: Assay
    level: Annotated[int, Meta(ge=1, le=3)]
    deviation_msd: Value


class Calibration(Report, frozen=True, tag="calibration"):
    """A calibration: its slope relative to the nominal slope and its offset, both in parts per million."""

    assay: Assay
    slope_ppm: Value
    offset_ppm: Value
    accepted: bool


class Alert(Report, frozen=True, tag="alert"):
    """A condition that requires a person: error code, component, severity, and the reading that caused it."""

    code: Code
    component: Component
    severity: Severity
    value: Value | None = None


class CommandResult(Report, frozen=True, tag="result"):
    """The outcome of a command."""

    command: Number
    outcome: Outcome


class CommandStep(Report, frozen=True, tag="step"):
    """The progress of a command on the instrument.

    `delivered`: the instrument has the command, and its file if it has one, complete and verified. `executing`: the
    execution begins once the box has acknowledged this report.
    """

    command: Number
    step: Step


class Gap(Message, frozen=True, tag="gap"):
    """Audit record: sequence numbers that will not be delivered, and the reason.

    `disk-full` and `corrupt` records are lost; `unfinished` ones were never acknowledged when the box crashed;
    `unused` numbers never had a record; `refused` records were rejected by the data center.
    """

    at_ms: TimeMs
    reason: Annotated[str, Meta(pattern=r"^(disk-full|corrupt|unfinished|unused|refused)\Z")]
    records: Count
    ranges: Annotated[tuple[tuple[Number, Number], ...], Meta(max_length=64)]


class Audit(Message, frozen=True, tag="audit"):
    """Audit record of an event on the box; `event` is a lower-case word with hyphens."""

    at_ms: TimeMs
    event: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,47}\Z")]
    port: Annotated[int, Meta(ge=0, le=64)] = 0
    value: Value = 0


class ProfileInForce(Message, frozen=True, tag="profile"):
    """From this record on, the reports of `instrument` follow this version of the profile of its model."""

    at_ms: TimeMs
    instrument: Annotated[str, Meta(pattern=r"^[A-Z0-9][A-Z0-9-]{0,23}\Z")]
    model: Model
    version: Annotated[int, Meta(ge=0, le=INT_MAX)]
    port: Annotated[int, Meta(ge=0, le=64)] = 0
    """The instrument port of the box; 0 in records of earlier versions."""


class UpdateStep(Message, frozen=True, tag="update"):
    """The progress of an update on the box; each step is reported once it is durable.

    `accepted`: metadata, free space and sources are checked. `fetched`: the delta is complete and verified.
    `applied`: the other slot was read back, and is bit-exact. `restarting`: the next start is a trial of the new
    release. `committed`: the new release runs, and has judged itself healthy; if it needs no restart, it is in force.
    `returned`: the trial did not succeed, and the previous release runs again. `refused`: nothing was changed.
    `failed`: the update ended before a trial. `release` is the number of the ordered release.
    """

    at_ms: TimeMs
    order: Number
    release: Count
    step: UpdateWord
    reason: Annotated[str, Meta(pattern=r"^([a-z][a-z0-9-]{0,47})?\Z")] = ""


class LogLine(Message, frozen=True, tag="line"):
    """A line of a log of the box's operating system, with its newline, or a part of a long line.

    This is the only message with free text. Neither instruments nor the local page can send it, and it is kept
    apart from their reports. `file` identifies the log's file, in which the content begins at byte `offset`.
    """

    at_ms: TimeMs
    source: Literal["system", "sessions"]
    file: Annotated[bytes, Meta(min_length=16, max_length=16)]
    offset: Count
    content: Annotated[bytes, Meta(min_length=1, max_length=LOG_LINE_BYTES_MAX)]


class AuditLink(Message, frozen=True):
    """The position of an entry in the chain of a box's audit records: its number, and the hash of the previous entry.

    The hash of an entry is the SHA-256 of its encoding, which includes its own link.
    """

    number: Number
    previous: Annotated[bytes, Meta(min_length=32, max_length=32)]


InstrumentReport: TypeAlias = Status | Inventory | Quality | Calibration | Alert | CommandResult | CommandStep
BoxReport: TypeAlias = Gap | Audit | ProfileInForce | UpdateStep | LogLine


class Entry(Message, frozen=True):
    """A report as the box stores and forwards it; `instrument` is empty for the box's own reports."""

    instrument: Annotated[str, Meta(pattern=r"^([A-Z0-9][A-Z0-9-]{0,23})?\Z")]
    run: Run
    body: InstrumentReport | BoxReport
    link: AuditLink | None = None
    """The link of the box's own audit records; omitted if there is none."""


class Reports(Message, frozen=True):
    """Instrument → box: reports of one run, oldest first."""

    run: Run
    reports: Annotated[list[InstrumentReport], Meta(min_length=1, max_length=REPORTS_PER_POST_MAX)]


class Command(Message, frozen=True):
    """Data center → box → instrument; `instrument` is empty for the box itself. Repeated until its result arrives.

    The body of a command with a file is a `wire.files.FileReference`. The box sets `is_begun` if the instrument began
    to execute the command. An agent without a record of such a command was restarted meanwhile, and reports that the
    command failed.
    """

    id: Number
    instrument: Annotated[str, Meta(pattern=r"^([A-Z0-9][A-Z0-9-]{0,23})?\Z")]
    verb: Verb
    body: Annotated[bytes, Meta(max_length=COMMAND_BODY_BYTES_MAX)] = b""
    is_begun: bool = False


Commands: TypeAlias = Annotated[list[Command], Meta(max_length=COMMANDS_PER_REPLY_MAX)]
Withdrawn: TypeAlias = Annotated[list[Number], Meta(max_length=REPORTS_PER_POST_MAX)]
DENIED_MAX: Final = 64
Denied: TypeAlias = Annotated[list[Serial], Meta(max_length=DENIED_MAX)]


class Receipt(Message, frozen=True):
    """Box → instrument: all reports of the request are durable on the box.

    `commands` are the pending commands of the instrument. `withdrawn` are commands whose execution the request
    announced, and which must not be executed.
    """

    accepted: Count
    commands: Commands = []
    withdrawn: Withdrawn = []


class Record(Message, frozen=True):
    """One entry of a batch; `step` is its sequence number minus that of the previous record."""

    step: Number
    entry: Entry


class Batch(Message, frozen=True):
    """Data center ← box: records of one epoch in ascending sequence; the first has sequence `after + step`."""

    epoch: Run
    after: Count
    records: Annotated[list[Record], Meta(min_length=1, max_length=RECORDS_PER_BATCH_MAX)]


class BatchReply(Message, frozen=True):
    """Data center → box: the batch is committed, and `stored` of its records were new.

    `commands` are the pending commands. `withdrawn` are commands that must not be executed unless they were begun;
    the box reports those it withdrew. `sessions` states that there are messages of remote sessions
    (`wire.session.messages`), `updates` that the box's order changed (`wire.release.messages`). `denied` are the
    instruments behind the box that are on the deny-list. A field is sent only if it, or a later field, differs from
    its default: boxes of earlier versions, which do not know these fields, accept all other replies. `updates` is
    true only for boxes that request orders, and only instruments that have received a certificate through their box
    can be denied.
    """

    stored: Count
    commands: Commands = []
    withdrawn: Withdrawn = []
    sessions: bool = False
    updates: bool = False
    denied: Denied = []


class BatchRefusal(Message, frozen=True, tag="refusal"):
    """Data center → box: no record of the batch is stored, because this one cannot be decoded."""

    epoch: Run
    sequence: Number


class _RawRecord(Message, frozen=True):
    """A `Record` with its entry undecoded."""

    step: Number
    entry: msgspec.Raw


class _RawBatch(Message, frozen=True):
    """A `Batch` with its entries undecoded."""

    epoch: Run
    after: Count
    records: Annotated[list[_RawRecord], Meta(min_length=1, max_length=RECORDS_PER_BATCH_MAX)]


class MessageError(Exception):
    """The bytes are not a valid message; the text states the problem and its position."""


_M = TypeVar("_M", bound=Message)
_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type[Message], msgspec.msgpack.Decoder[Message]] = {}


def encode(message: Message) -> bytes:
    """Encode a message; equal messages give equal bytes."""
    if isinstance(message, Entry) and message.link is None:
        return _encoder.encode((message.instrument, message.run, message.body))
    if isinstance(message, BatchReply):
        optional = [message.sessions, message.updates, message.denied]
        while optional and not optional[-1]:
            optional.pop()
        return _encoder.encode([message.stored, message.commands, message.withdrawn, *optional])
    return _encoder.encode(message)


def decode(kind: type[_M], data: bytes | memoryview) -> _M:
    """Decode a message of `kind`. Raises: MessageError with the path of the first invalid element."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        return decoder.decode(data)  # type: ignore[return-value]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MessageError(str(error)) from None


def encode_batch(epoch: int, records: list[tuple[int, bytes]]) -> bytes:
    """Encode a `Batch` from (sequence, encoded entry) pairs in ascending sequence, without decoding the entries."""
    previous = after = records[0][0] - 1
    steps = []
    for sequence, entry in records:
        steps.append((sequence - previous, msgspec.Raw(entry)))
        previous = sequence
    return _encoder.encode((epoch, after, steps))


def find_undecodable_record(data: bytes) -> BatchRefusal | None:
    """Find the first record that makes `data` an invalid `Batch`; None if no single record does."""
    try:
        raw = decode(_RawBatch, data)
    except MessageError:
        return None
    sequence = raw.after
    for record in raw.records:
        sequence += record.step
        try:
            decode(Entry, record.entry)
        except MessageError:
            return BatchRefusal(raw.epoch, sequence)
    return None


def sequences(batch: Batch) -> list[int]:
    """Return the sequence number of each record of the batch."""
    sequence, result = batch.after, []
    for record in batch.records:
        sequence += record.step
        result.append(sequence)
    return result
