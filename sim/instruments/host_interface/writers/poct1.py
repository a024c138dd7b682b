"""POCT1-A documents of an instrument: status, quality control, events, patient results."""

from __future__ import annotations

from random import Random
from typing import Final
from xml.sax.saxutils import quoteattr

from sim.instruments.host_interface.clock import InstrumentClock
from sim.instruments.host_interface.codes import HostCodes
from sim.instruments.host_interface.content import HostMessage, MessageContent, PatientResults
from sim.instruments.host_interface.extraneous import log_line
from wire.messages import Alert, Status
from wire.standards.mllp import frame

CONDITIONS: Final = {"idle": "R", "running": "B", "stopped": "L"}


class Poct1Writer:
    """Writes documents of one instrument in its dialect."""

    def __init__(
        self, codes: HostCodes, dialect: frozenset[str], clock: InstrumentClock, random: Random
    ) -> None:
        self._codes, self._dialect, self._clock = codes, dialect, clock
        self._count = random.randrange(1, 10_000)
        self._statuses: dict[bytes, str] = {}
        """The body of each status document by its control ID."""

    def write(self, content: MessageContent, at_s: int) -> HostMessage:
        """Return the document with this content, created at `at_s` of the instrument's clock."""
        kind, body = self._body(content, self._clock.extended(at_s))
        message = self.document(kind, body, at_s)
        if kind == "DST.R01":
            self._statuses[message.control_id] = body.removeprefix("<DST>").removesuffix("</DST>")
        message.log = log_line(content).encode()
        return message

    def document(self, kind: str, body: str, at_s: int) -> HostMessage:
        """Return a document with its header."""
        self._count += 1
        declaration = "" if "no-declaration" in self._dialect else '<?xml version="1.0" encoding="utf-8"?>'
        type_ = "REQ" if "message-type-wrong" in self._dialect else kind
        header = (
            f'<HDR><HDR.message_type V="{type_}"/><HDR.control_id V="{self._count}"/><HDR.version_id V="POCT1"/>'
            f'<HDR.creation_dttm V="{self._clock.extended(at_s)}"/></HDR>'
        )
        data = f"{declaration}<{kind}>{header}{body}</{kind}>\r\n".encode()
        framed = frame(data) if "mllp-framing" in self._dialect else data
        return HostMessage(framed, str(self._count).encode(), kind=kind)

    def hello(self, at_s: int) -> HostMessage:
        """Return HEL.R01, the first document of a connection."""
        continuous = '<DSC.directives_supported_cd V="START_CONTINUOUS"/>'
        supported = "" if "not-continuous" in self._dialect else continuous
        body = f'<DEV><DEV.device_id V="SIM-1"/><DCP/><DSC><DSC.connection_profile_cd V="SA"/>{supported}</DSC></DEV>'
        return self.document("HEL.R01", body, at_s)

    def summary(self, status: HostMessage | None, observations: int, events: int, at_s: int) -> HostMessage:
        """Return DST.R01 for the start of a connection: the queued status, if any, and the numbers of queued
        documents.
        """
        time = f'<DST.status_dttm V="{self._clock.extended(at_s)}"/>'
        status_fields = time if status is None else self._statuses[status.control_id]
        counts = f'<DST.new_observations_qty V="{observations}"/><DST.new_events_qty V="{events}"/>'
        return self.document("DST.R01", f"<DST>{status_fields}{counts}</DST>", at_s)

    def _body(self, content: MessageContent, now: str) -> tuple[str, str]:
        if isinstance(content, PatientResults):
            return "OBS.R01", self._patient_results(content, now)
        fields = content.fields
        if content.kind is Status:
            condition = f'<DST.condition_cd V="{CONDITIONS[fields[0]]}"/>'
            return "DST.R01", f'<DST><DST.status_dttm V="{now}"/>{condition}</DST>'
        if content.kind is Alert:
            number = f'<EVT.number V="{self._codes.alarm(fields[0])}"/>'
            return "EVS.R01", (
                f'<EVT><EVT.description V="during the sample before"/><EVT.event_dttm V="{now}"/>'
                f'<EVT.severity_cd V="S"/>{number}</EVT>'
            )
        assay, level, deviation = fields
        value = self._codes.value(assay, level, deviation)
        control = f"<CTC><CTC.name V={quoteattr(self._codes.control(level))}/>{self._observation(assay, value)}</CTC>"
        return "OBS.R02", self._service("LQC", now, control)

    def _patient_results(self, results: PatientResults, now: str) -> str:
        patient = results.patient
        values = "".join(self._observation(assay, value) for assay, value in results.values)
        return self._service(
            "OBS",
            now,
            f'<PT><PT.patient_id V="{patient.number}"/><PT.name V="{patient.family} {patient.given}">'
            f'<GIV V="{patient.given}"/><FAM V="{patient.family}"/></PT.name>{values}</PT>'
            f'<NTE><NTE.text V="{patient.given} {patient.family}, {patient.sample}"/></NTE>',
        )

    def _observation(self, assay: str, value: str) -> str:
        test = self._codes.tests[assay]
        return (
            f'<OBS><OBS.observation_id V="{test}"/><OBS.value V="{value}" U="U"/><OBS.status_cd V="A"/></OBS>'
        )

    @staticmethod
    def _service(role: str, now: str, content: str) -> str:
        return (
            f'<SVC><SVC.role_cd V="{role}"/><SVC.observation_dttm V="{now}"/>{content}'
            '<OPR><OPR.operator_id V="12345"/></OPR></SVC>'
        )
