"""HL7 v2.5.1 messages of an instrument: ESU, INU and EAN of chapter 13, results as ORU^R01 or OUL^R22."""

from __future__ import annotations

import base64
from random import Random
from typing import Final

from sim.instruments.host_interface.clock import InstrumentClock
from sim.instruments.host_interface.codes import HostCodes
from sim.instruments.host_interface.content import HostMessage, MessageContent, Patient, PatientResults
from sim.instruments.host_interface.extraneous import log_line
from wire.messages import Alert, Inventory, Quality, Status
from wire.standards.mllp import frame

_STATES: Final = {
    "idle": "ID^Idle^HL70365",
    "running": "OP^Normal Operation^HL70365",
    "maintenance": "MA^Maintenance^HL70365",
    "stopped": "PD^Paused^HL70365",
}
_CHARSETS: Final = {
    "latin-1": ("latin-1", "8859/1"),
    "charset-lying": ("latin-1", "UNICODE UTF-8"),
    "charset-absent": ("latin-1", ""),
    "gb-18030": ("gb18030", "GB 18030-2000"),
}
_IMAGE_BYTES: Final = 6000


class Hl7Writer:
    """Writes messages of one instrument in its dialect."""

    def __init__(
        self, codes: HostCodes, dialect: frozenset[str], clock: InstrumentClock, random: Random
    ) -> None:
        self._codes, self._dialect, self._clock, self._random = codes, dialect, clock, random
        self._count = random.randrange(1, 10_000)
        self._encoding, self._charset = next(
            (charset for name, charset in _CHARSETS.items() if name in dialect), ("utf-8", "UNICODE UTF-8")
        )

    def write(self, content: MessageContent, at_s: int) -> HostMessage:
        """Return the message with this content, created at `at_s` of the instrument's clock."""
        kind, segments = self._body(content, self._clock.compact(at_s))
        self._count += 1
        control_id = "1" if "constant-control-id" in self._dialect else f"M{self._count}"
        lines = [self._header(kind, control_id, self._clock.compact(at_s)), *segments]
        log = log_line(content).encode(self._encoding)
        return HostMessage(frame(self._encode(lines)), control_id.encode(), kind=kind, log=log)

    def answer(self, control_id: bytes, event: str, at_s: int) -> bytes:
        """Return the acknowledgement of a command."""
        self._count += 1
        header = self._header(f"ACK^{event}", f"M{self._count}", self._clock.compact(at_s))
        return frame(self._encode([header, f"MSA|AA|{control_id.decode('latin-1')}"]))

    def _body(self, content: MessageContent, now: str) -> tuple[str, list[str]]:
        equipment = f"EQU|SIM^1|{now}"
        if isinstance(content, PatientResults):
            return "ORU^R01^ORU_R01", self._patient_results(content, now)
        fields = content.fields
        if content.kind is Status:
            return "ESU^U01^ESU_U01", [f"{equipment}|{_STATES[fields[0]]}|R|N^Normal^HL70367"]
        if content.kind is Inventory:
            return "INU^U05^INU_U05", [equipment, *map(self._stock, fields[0].items())]
        if content.kind is Alert:
            note = "NTE|1||tube of the sample before it\\.br\\see the log"
            return "EAN^U09^EAN_U09", [
                equipment,
                f"NDS|1|{now}|S^Serious|{self._codes.alarm(fields[0])}",
                note,
            ]
        assert content.kind is Quality, content.kind
        return self._control(fields, now)

    def _stock(self, item: tuple[str, int]) -> str:
        assay, left = item
        return f"INV|{self._codes.tests[assay]}^{assay}^L|OK^OK^HL70383|SR|||1|{left + 9}|{left}|{left}||TEST"

    def _control(self, fields: tuple[str, int, int], now: str) -> tuple[str, list[str]]:
        assay, level, deviation = fields
        control, test = self._codes.control(level), self._codes.tests[assay]
        results = [f"OBX|1|NM|{test}^{assay}||{self._codes.value(assay, level, deviation)}|U||N|||F|||{now}"]
        if "placeholders" in self._dialect:
            other = next(code for code in self._codes.tests.values() if code != test)
            results.append(f"OBX|2|NM|{other}||***.**|U|||||F|||{now}")
        order = f"OBR|1||{control}|{test}|||{now}"
        if "oul" in self._dialect:
            return "OUL^R22^OUL_R22", [f"SPM|1|{control}||SER|||||||Q", order, *results]
        return "ORU^R01^ORU_R01", [f"PID|1||{control}", order, *results, f"SPM|1|{control}||SER|||||||Q"]

    def _patient_results(self, results: PatientResults, now: str) -> list[str]:
        patient = results.patient
        rows = [
            f"OBX|{n}|NM|{self._codes.tests[assay]}||{value}|U||N|||F|||{now}"
            for n, (assay, value) in enumerate(results.values, 1)
        ]
        if "images" in self._dialect:
            rows.append(
                f"OBX|{len(rows) + 1}|ED|IMG^Scattergram||SIM^IM^BMP^Base64^{self._image(patient)}||||||F"
            )
        return [
            f"PID|1||{patient.number}||{patient.family}^{patient.given}||{patient.born}|{patient.sex}",
            f"OBR|1||{patient.sample}|PANEL|||{now}",
            f"NTE|1||{patient.given} {patient.family} asked for a copy",
            *rows,
            f"SPM|1|{patient.sample}||SER|||||||P",
        ]

    def _image(self, patient: Patient) -> str:
        """Return an image with the patient's name in its header, as some instruments send it."""
        name = f"{patient.family} {patient.given}".encode(self._encoding)
        return base64.b64encode(b"BM" + name + self._random.randbytes(_IMAGE_BYTES)).decode()

    def _header(self, kind: str, control_id: str, now: str) -> str:
        conditions = "||ER|AL" if "enhanced-mode" in self._dialect else "|||"
        separator = "||" if "doubled-separator" in self._dialect else "|"
        return (
            f"MSH{separator}^~\\&|SIM||Host||{now}||{kind}|{control_id}|P|2.5.1|{conditions}||{self._charset}"
        )

    def _encode(self, lines: list[str]) -> bytes:
        end = b"\r"
        if "lf-segments" in self._dialect:
            end = b"\r\n"
        elif "fs-segments" in self._dialect:
            end = b"\x1c"
        data = end.join(line.encode(self._encoding) for line in lines) + b"\r"
        return data.translate(_UNUSUAL) if "delimiters" in self._dialect else data


_UNUSUAL: Final = bytes.maketrans(b"|^~\\&", b"!#$`%")
