"""Beckman AU analyzers: records of fixed columns between STX and ETX, without numbers and checksums.

The analyzer expects an answer after at least 0.5 s and at most 2 s. There is no checksum, so that a lost byte can
only be detected by the length of a record: a control's record whose length does not fit the columns is refused, so
that the analyzer repeats it.

| type | record | treatment |
|---|---|---|
| DB, DE | begin and end of results | acknowledged |
| DQ | a control's results | quality control, if the site has entered the sample number |
| D and anything else | a patient's results, a rerun, a calibrator, a reagent blank | counted |
| RB, R, RE | requests for orders | R is counted; no orders are sent |
"""

from __future__ import annotations

import re
from typing import Final

from settings.adapted import AdaptedPort, Columns, Control
from wire.messages import Quality
from wire.standards.engine import Action, Count, Deliver, Outcome, Send
from wire.standards.extract import Extract, Finding, Reason
from wire.standards.rules import deviation_msd, is_placeholder, parse_decimal

STX, ETX, ACK, NAK = b"\x02", b"\x03", b"\x06", b"\x15"
ANSWER_AFTER_S: Final = 0.5
RECORD_BYTES_MAX: Final = 4096
RECEIVER_S: Final = 30.0
"""How long to wait for the rest of a record."""
_BYTE: Final = re.compile(rb"[\x02\x03]")
_NO_RESULTS: Final = frozenset({"DB", "DE", "RB", "RE"})


class AuEngine:
    """The receiver of an AU port (`wire.standards.engine.Engine`). Raises: ValueError for wrong columns."""

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
        self._data, self._at = b"", 0
        self._record: bytearray | None = None
        self._too_long = False
        self._in_litter = False
        self._accepted = b""
        self._undecided: bytes | None = None
        self._until = 0.0

    @property
    def deadline(self) -> float | None:
        """When the rest of a record is overdue."""
        return self._until if self._record is not None and self._undecided is None else None

    def receive(self, data: bytes, now: float) -> list[Action]:
        """Process received bytes."""
        self._data, self._at = self._data[self._at :] + data, 0
        return self._process(now)

    def decided(self, outcome: Outcome, now: float) -> list[Action]:
        """Answer the record delivered last. A refused one is acknowledged too: repeating it would change nothing."""
        record, self._undecided = self._undecided, None
        if outcome is Outcome.BUSY:
            return [Count(Reason.NOT_STORED), _answer(NAK), *self._process(now)]
        self._accepted = record or b""
        refused: list[Action] = [Count(Reason.MESSAGE_REFUSED)] if outcome is Outcome.REFUSED else []
        return [*refused, _answer(ACK), *self._process(now)]

    def expired(self, now: float) -> list[Action]:
        """Discard and count a record whose end did not arrive."""
        return self.closed(now) if self.deadline is not None and now >= self.deadline else []

    def closed(self, now: float) -> list[Action]:  # noqa: ARG002 - nothing depends on the time
        """Count an unfinished record."""
        unfinished, self._record, self._undecided = self._record is not None, None, None
        return [Count(Reason.MESSAGE_UNFINISHED)] if unfinished else []

    def _process(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while self._at < len(self._data) and self._undecided is None:
            actions += self._step()
        if self._at == len(self._data):
            self._data, self._at = b"", 0
        self._until = now + RECEIVER_S
        return actions

    def _step(self) -> list[Action]:
        found = _BYTE.search(self._data, self._at)
        end = found.start() if found else len(self._data)
        litter = self._collect(self._data[self._at : end])
        self._at = found.end() if found else end
        if found is None:
            return litter
        if found[0] == STX:
            cut = self._record is not None
            self._record, self._too_long, self._in_litter = bytearray(), False, False
            return [*litter, Count(Reason.FRAME_REFUSED)] if cut else litter
        record, self._record = self._record, None
        return litter + (self._read(bytes(record)) if record is not None else [])

    def _collect(self, part: bytes) -> list[Action]:
        if self._record is None:
            begins = bool(part.strip(b"\r\n")) and not self._in_litter
            self._in_litter |= begins
            return [Count(Reason.LITTER)] if begins else []
        self._too_long |= len(self._record) + len(part) > RECORD_BYTES_MAX
        self._record += part[: RECORD_BYTES_MAX - len(self._record)]
        return []

    def _read(self, record: bytes) -> list[Action]:
        text = record.decode("latin-1")
        kind = _column(text, self._columns.type).strip(" ")
        if kind in _NO_RESULTS:
            self._accepted = b""
            return [_answer(ACK)]
        if self._too_long or not kind:
            return [Count(Reason.FRAME_REFUSED), _answer(NAK)]
        if kind != "DQ":
            self._accepted = b""
            dropped = Reason.QUERY_IGNORED if kind == "R" else Reason.PATIENT_RESULTS_DROPPED
            return [Count(dropped), _answer(ACK)]
        if record == self._accepted:
            return [Count(Reason.FRAME_REPEATED), _answer(ACK)]
        extract = read_control(text, self._port, self._columns)
        if extract is None:
            return [Count(Reason.FRAME_REFUSED), _answer(NAK)]
        self._undecided = record
        return [Deliver(extract)]


def _answer(byte: bytes) -> Send:
    return Send(byte, ANSWER_AFTER_S)


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
