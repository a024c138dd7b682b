"""Beckman AU analyzers: records of fixed columns between STX and ETX, without numbers and checksums.

The analyzer expects an answer after at least 0.5 s and at most 2 s. Without a checksum, a lost byte can only be
detected by the length of a record: a control's record whose length does not fit the columns is refused, and the
analyzer repeats it.

| type | record | treatment |
|---|---|---|
| DB, DE | beginning and end of results | acknowledged |
| DQ | a control's results | quality control, if the site has entered the sample number |
| D and anything else | a patient's results, a rerun, a calibrator, a reagent blank | counted |
| RB, R, RE | requests for orders | R is counted; no orders are sent |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from settings.adapted import AdaptedPort, Columns, Control
from wire.messages import Quality
from wire.standards.engine import Action, Count, Deliver, Outcome, Send, count_outcome
from wire.standards.extract import Extract, Finding, Reason
from wire.standards.rules import deviation_msd, is_placeholder, parse_decimal
from wire.standards.unanswered import SKEW_S, EarlyAnswer

STX, ETX, ACK, NAK = b"\x02", b"\x03", b"\x06", b"\x15"
ANSWER_AFTER_S: Final = 0.5
STORE_AFTER_S: Final = 0.4
"""Time after a record's end at which it is stored."""
ANSWER_UNTIL_S: Final = 2.0
"""Time for which an analyzer waits for the response; a later one would count as the response to its next record."""
RECORD_BYTES_MAX: Final = 4096
RECEIVER_S: Final = 30.0
"""Time limit for the rest of a record."""
_BYTE: Final = re.compile(rb"[\x02\x03]")
_HOST_BYTE: Final = re.compile(rb"[\x02\x06\x15]")
_NO_RESULTS: Final = frozenset({"DB", "DE", "RB", "RE"})


@dataclass(frozen=True, slots=True)
class AuRecord:
    """A record between STX and ETX; of one that is `too_long`, only the beginning."""

    data: bytes
    too_long: bool


class AuRecordReader:
    """Divides bytes into records. At most RECORD_BYTES_MAX bytes of a record are kept."""

    def __init__(self) -> None:
        self._data, self._at = b"", 0
        self._record: bytearray | None = None
        self._too_long = False
        self._in_litter = False

    @property
    def inside(self) -> bool:
        """Whether a record has begun and not ended."""
        return self._record is not None

    @property
    def has_next(self) -> bool:
        """Whether the next record has begun in the bytes received."""
        return self._data.find(STX, self._at) >= 0

    def push(self, data: bytes) -> None:
        """Append received bytes."""
        self._data, self._at = self._data[self._at :] + data, 0

    def pull(self) -> AuRecord | Reason | None:
        """Return the next record, a reason for a count, or None if more bytes are needed."""
        while self._at < len(self._data):
            match = _BYTE.search(self._data, self._at)
            end = match.start() if match else len(self._data)
            part, self._at = self._data[self._at : end], end
            if self._is_litter(part):
                return Reason.LITTER
            if match is None:
                break
            self._at = match.end()
            record, self._record = self._record, None
            if match[0] == STX:
                self._record, self._in_litter = bytearray(), False
            too_long, self._too_long = self._too_long, False
            if record is not None:
                return Reason.FRAME_REFUSED if match[0] == STX else AuRecord(bytes(record), too_long)
        self._data, self._at = b"", 0
        return None

    def reset(self) -> bool:
        """Discard an unfinished record; return whether there was one."""
        unfinished, self._record, self._too_long = self.inside, None, False
        return unfinished

    def _is_litter(self, part: bytes) -> bool:
        """Keep a part of a record; return whether a part between records begins a stretch of other bytes."""
        if self._record is None:
            begins = bool(part.strip(b"\r\n")) and not self._in_litter
            self._in_litter |= begins
            return begins
        self._too_long |= len(self._record) + len(part) > RECORD_BYTES_MAX
        self._record += part[: RECORD_BYTES_MAX - len(self._record)]
        return False


class AuRecords:
    """Interprets records by the columns of the site. Raises: ValueError for wrong columns."""

    def __init__(self, port: AdaptedPort) -> None:
        if port.columns is None:
            raise ValueError(
                "an AU analyzer needs `columns`: the positions of type, sample and results in its records"
            )
        spans = [getattr(port.columns, name) for name in ("type", "sample")]
        if any(len(span) != 2 or not 0 <= span[0] < span[1] for span in spans):
            raise ValueError(
                "`columns`: `type` and `sample` must be [first, end], counted from 0, like [0, 2]"
            )
        self._port, self._columns = port, port.columns
        self._accepted = b""

    def read(self, record: AuRecord) -> Extract | Reason | None:
        """Return a record's results, or the reason to count it (FRAME_REFUSED: repeat it); None if it has neither."""
        text = record.data.decode("latin-1")
        kind = _column(text, self._columns.type).strip(" ")
        if kind in _NO_RESULTS:
            self._accepted = b""
            return None
        if record.too_long or not kind:
            return Reason.FRAME_REFUSED
        if kind != "DQ":
            self._accepted = b""
            return Reason.QUERY_IGNORED if kind == "R" else Reason.PATIENT_RESULTS_DROPPED
        if record.data == self._accepted:
            return Reason.FRAME_REPEATED
        extract = read_control(text, self._port, self._columns)
        return Reason.FRAME_REFUSED if extract is None else extract

    def accept(self, record: AuRecord) -> None:
        """Store the record accepted last, to recognize its repetition."""
        self._accepted = record.data


class AuEngine:
    """The receiver of an AU port (`wire.standards.engine.Engine`). Raises: ValueError for wrong columns."""

    def __init__(self, port: AdaptedPort) -> None:
        self._records, self._reader = AuRecords(port), AuRecordReader()
        self._undecided: AuRecord | None = None
        self._undecided_since = 0.0
        self._until = 0.0

    @property
    def deadline(self) -> float | None:
        """The time at which the rest of a record is overdue."""
        return self._until if self._reader.inside and self._undecided is None else None

    def receive(self, data: bytes, now: float) -> list[Action]:
        """Process received bytes."""
        self._reader.push(data)
        return self._process(now)

    def decided(self, outcome: Outcome, now: float) -> list[Action]:
        """Answer the record delivered last.

        A refused record is acknowledged too: repeating it would change nothing. If the analyzer no longer waits, no
        answer is sent; the analyzer repeats the record, and is then answered.
        """
        record, self._undecided = self._undecided, None
        actions: list[Action] = count_outcome(outcome)
        if record is not None and outcome is not Outcome.BUSY:
            self._records.accept(record)
        if now - self._undecided_since < ANSWER_UNTIL_S:
            actions += self._answer(NAK if outcome is Outcome.BUSY else ACK)
        return [*actions, *self._process(now)]

    def expired(self, now: float) -> list[Action]:
        """Discard and count a record whose end did not arrive."""
        return self.closed(now) if self.deadline is not None and now >= self.deadline else []

    def closed(self, now: float) -> list[Action]:  # noqa: ARG002 - nothing depends on the time
        """Count an unfinished record."""
        self._undecided = None
        return [Count(Reason.MESSAGE_UNFINISHED)] if self._reader.reset() else []

    def _process(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while self._undecided is None and (record := self._reader.pull()) is not None:
            actions += [Count(record)] if isinstance(record, Reason) else self._read(record, now)
        self._until = now + RECEIVER_S
        return actions

    def _read(self, record: AuRecord, now: float) -> list[Action]:
        content = self._records.read(record)
        if isinstance(content, Extract):
            self._undecided, self._undecided_since = record, now
            return [Deliver(content, STORE_AFTER_S)]
        answer = self._answer(NAK if content is Reason.FRAME_REFUSED else ACK)
        return answer if content is None else [Count(content), *answer]

    def _answer(self, byte: bytes) -> list[Action]:
        """Answer a record, unless the next one has arrived: the analyzer has given up waiting for this answer."""
        return [] if self._reader.has_next else [Send(byte, ANSWER_AFTER_S)]


class AuObserver:
    """Delivers the records that the laboratory's host has accepted (`wire.standards.engine.Observer`).

    If the host is not observed, a record that fits the columns counts as accepted. Raises: ValueError for wrong
    columns.
    """

    def __init__(self, port: AdaptedPort, *, host_observed: bool = True) -> None:
        self._records, self._host_observed = AuRecords(port), host_observed
        self._instrument, self._host = AuRecordReader(), b""
        self._unanswered: AuRecord | None = None
        self._previous: AuRecord | None = None
        """The previous record, whose answer may still be delayed in another serial port until `_late_until`."""
        self._late_until = 0.0
        self._early, self._now = EarlyAnswer(), 0.0

    def from_instrument(self, data: bytes, now: float) -> list[Action]:
        """Process bytes from the instrument."""
        self._now = now
        self._instrument.push(data)
        return self._process()

    def from_host(self, data: bytes, now: float) -> list[Action]:
        """Process bytes from the host; its answers are between its own records."""
        self._now = now
        self._host += data
        return self._process()

    def decided(self, outcome: Outcome, now: float) -> list[Action]:  # noqa: ARG002 - no time limit
        """Count the findings that were not stored, and continue."""
        return count_outcome(outcome) + self._process()

    def closed(self, now: float) -> list[Action]:  # noqa: ARG002 - no time limit
        """Count an unfinished record, and one that the host has not answered."""
        lost = [self._give_up(self._previous), self._give_up(self._unanswered)]
        unfinished: list[Action] = [Count(Reason.MESSAGE_UNFINISHED)] if self._instrument.reset() else []
        self._previous = self._unanswered = None
        return [*lost[0], *lost[1], *unfinished]

    def _process(self) -> list[Action]:
        """Process the instrument's records, then the host's answers; stop at a delivery."""
        actions: list[Action] = []
        while not (actions and isinstance(actions[-1], Deliver)):
            if self._unanswered is not None and (known := self._known_answer()) is not None:
                actions += self._answered(accepted=known)
            elif (record := self._instrument.pull()) is not None:
                actions += [Count(record)] if isinstance(record, Reason) else self._wait_for_answer(record)
            elif (answer := self._next_answer()) is not None:
                actions += self._answered(accepted=answer == ACK)
            else:
                break
        return actions

    def _known_answer(self) -> bool | None:
        """Return the answer that the host has given before, or is assumed to give if it is not observed."""
        return self._early.take(self._now) if self._host_observed else True

    def _wait_for_answer(self, record: AuRecord) -> list[Action]:
        """Keep a record until the host answers it, and its predecessor if the answer may be late.

        An analyzer sends another record only after an answer, or when it has given up.
        """
        if self._unanswered in (None, record):
            self._unanswered = record
            return []
        given_up = self._give_up(self._previous)
        self._previous, self._unanswered = self._unanswered, record
        self._late_until = self._now + SKEW_S
        return given_up

    def _give_up(self, record: AuRecord | None) -> list[Action]:
        """Count a record without an answer, unless it has no content."""
        has_content = record is not None and self._records.read(record) is not None
        return [Count(Reason.MESSAGE_UNFINISHED)] if has_content else []

    def _next_answer(self) -> bytes | None:
        """Return the next ACK or NAK of the host; its records are skipped."""
        while match := _HOST_BYTE.search(self._host):
            if match[0] == STX:
                end = self._host.find(ETX, match.end())
                if end < 0:
                    self._host = self._host[match.start() : match.end()]
                    return None
                self._host = self._host[end + 1 :]
            else:
                self._host = self._host[match.end() :]
                return match[0]
        self._host = b""
        return None

    def _answered(self, *, accepted: bool) -> list[Action]:
        if (
            self._previous is not None and self._now <= self._late_until
        ):  # no host answers a record so quickly
            previous, self._previous = self._previous, None
            return self._settle(previous, accepted)
        given_up = self._give_up(self._previous)
        record, self._previous, self._unanswered = self._unanswered, None, None
        return given_up + self._settle(record, accepted)

    def _settle(self, record: AuRecord | None, accepted: bool) -> list[Action]:
        if record is None:
            self._early.keep(accepted, self._now)
            return []
        if not accepted:
            return [Count(Reason.FRAME_REFUSED)]
        content = self._records.read(record)
        if isinstance(content, Extract):
            self._records.accept(record)
            return [Deliver(content)]
        return [] if content is None else [Count(content)]


def _column(text: str, span: list[int]) -> str:
    return text[span[0] : span[1]]


def read_control(text: str, port: AdaptedPort, columns: Columns) -> Extract | None:
    """Return the findings of a control's record; None if it does not fit the columns."""
    groups = text[columns.results_from :]
    width = columns.test + columns.value + columns.flag
    results = [groups[start : start + width] for start in range(0, len(groups), width)]
    results = [result for result in results if result.strip(" ")]
    tests = [result[: columns.test] for result in results]
    if len(text) < columns.results_from or len(groups) % width or any(" " in test for test in tests):
        return None
    extract = Extract()
    control = port.controls.get(_column(text, columns.sample).strip(" "))
    if control is None:
        extract.counts[Reason.CONTROL_UNKNOWN] += bool(results)
        return extract
    for test, result in zip(tests, results, strict=True):
        value = result[columns.test : columns.test + columns.value]
        if test not in port.ignore and not is_placeholder(value):
            _read_result(extract, port, control, test, value)
    return extract


def _read_result(extract: Extract, port: AdaptedPort, control: Control, test: str, value: str) -> None:
    assay, number = port.tests.get(test), parse_decimal(value)
    if assay is None:
        extract.counts[Reason.TEST_UNKNOWN] += 1
    elif assay not in control.targets:
        extract.counts[Reason.CONTROL_UNKNOWN] += 1
    elif number is None or (deviation := deviation_msd(number, control.targets[assay])) is None:
        extract.counts[Reason.VALUE_UNREADABLE] += 1
    else:
        extract.findings.append(Finding(Quality, (assay, control.level, deviation)))
