"""LIS2-A messages of an instrument: quality control, alarms, patient results."""

from __future__ import annotations

import base64
from random import Random
from typing import Final

from sim.instruments.host_interface.clock import InstrumentClock
from sim.instruments.host_interface.codes import HostCodes
from sim.instruments.host_interface.content import HostMessage, MessageContent, PatientResults
from sim.instruments.host_interface.extraneous import log_line
from wire.messages import Alert, Quality

_HISTOGRAM_BYTES: Final = 300
_UNUSUAL: Final = bytes.maketrans(b"|\\^&", b"!@$#")


class AstmWriter:
    """Writes messages of one instrument in its dialect."""

    def __init__(
        self, codes: HostCodes, dialect: frozenset[str], clock: InstrumentClock, random: Random
    ) -> None:
        self._codes, self._dialect, self._clock, self._random = codes, dialect, clock, random
        self._encoding = "latin-1" if "latin-1" in dialect else "utf-8"
        if "gb-18030" in dialect:
            self._encoding = "gb18030"

    def write(self, content: MessageContent, at_s: int) -> HostMessage:
        """Return the message with this content, created at `at_s` of the instrument's clock."""
        now = self._clock.compact(at_s)
        records = self._body(content, now)
        text = self._encode(self._message(records, now))
        if isinstance(content, PatientResults) and "host-queries" in self._dialect:
            text = self._encode(self._message([self._query(content)], now)) + text
        kind = "results" if isinstance(content, PatientResults) else content.kind.__name__
        return HostMessage(text, kind=kind, log=log_line(content).encode(self._encoding))

    def _message(self, records: list[str], now: str) -> list[str]:
        header = "H" if "bare-header" in self._dialect else f"H|\\^&|||SIM^1|||||||P|LIS2-A2|{now}"
        return [header, *records, *([] if "no-terminator" in self._dialect else ["L|1|N"])]

    def _body(self, content: MessageContent, now: str) -> list[str]:
        if isinstance(content, PatientResults):
            return self._patient_results(content, now)
        fields = content.fields
        if content.kind is Alert:
            return [f"C|1|I|{self._codes.alarm(fields[0])}^see the log|I"]
        assert content.kind is Quality, content.kind
        assay, level, deviation = fields
        test, value = self._codes.tests[assay], self._codes.value(assay, level, deviation)
        control = self._padded(self._codes.control(level))
        return [
            "P|1",
            f"O|1|{control}||^^^{test}|R||||||Q||||Control||||||||||F",
            *self._result(1, test, value, now, "run by the night shift"),
        ]

    def _result(self, number: int, test: str, value: str, now: str, remark: str) -> list[str]:
        rows = [f"R|{number}|^^^{test}|{self._padded(value)}|U||N||F||OP||{now}"]
        if "comments" in self._dialect:
            rows.append(f"C|1|I|{remark}|G")
        if "placeholders" in self._dialect:
            other = next(code for code in self._codes.tests.values() if code != test)
            rows.append(f"R|{number + 1}|^^^{other}|-----|U||N||F||OP||{now}")
        if "manufacturer-records" in self._dialect:
            rows.append(f"M|1|HISTOGRAM|{test}|{self._histogram(remark)}")
        return rows

    def _histogram(self, remark: str) -> str:
        data = remark.encode(self._encoding) + self._random.randbytes(_HISTOGRAM_BYTES)
        return base64.b64encode(data).decode()

    def _patient_results(self, results: PatientResults, now: str) -> list[str]:
        patient = results.patient
        rows = [
            f"P|1|{patient.number}||{patient.number}|{patient.family}^{patient.given}||{patient.born}|{patient.sex}",
            f"C|1|I|{patient.given} {patient.family} is allergic|G",
            f"O|1|{self._padded(patient.sample)}||^^^PANEL|R|||||||||||Serum||||||||||F",
        ]
        for number, (assay, value) in enumerate(results.values, 1):
            test = self._codes.tests[assay]
            rows += self._result(number, test, value, now, f"{patient.family} {patient.sample}")
        return rows

    def _query(self, results: PatientResults) -> str:
        return f"Q|1|^{results.patient.sample}||ALL||||||||O"

    def _padded(self, text: str) -> str:
        return f"  {text}   " if "padded-fields" in self._dialect else text

    def _encode(self, records: list[str]) -> bytes:
        data = b"".join(record.encode(self._encoding) + b"\r" for record in records)
        return data.translate(_UNUSUAL) if "delimiters" in self._dialect else data
