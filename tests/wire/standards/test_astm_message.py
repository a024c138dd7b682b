"""Results of an ASTM message: which are quality control, which findings they become, and which are only counted."""

from typing import Any

import pytest

from tests.support.wire.astm import CONFIG, CONTROL, HEADER, RESULT, astm_played, session
from tests.support.wire.instrument_cases import play, port_of
from wire.messages import Alert, Quality
from wire.standards.astm import astm_engine
from wire.standards.extract import Finding, Reason
from wire.standards.lis1.frames import ACK, FrameStyle

GLU = Finding(Quality, ("glu", 2, 2250), 1930381140000)
DROPPED = {Reason.PATIENT_RESULTS_DROPPED: 1}


def test_a_marked_order_of_a_known_control_without_a_patient_is_quality_control() -> None:
    played = astm_played(HEADER, "P|1", CONTROL, RESULT)
    assert (played.findings, played.counts) == ([GLU], {})


@pytest.mark.parametrize(
    "patient",
    [
        "P|1|4711",
        "P|1||4711",
        "P|1|||4711",
        "P|1||||HOLUB^MIRELA",
        "P|1||||^MIRELA",
        "P|1|||||HOLUB",
        "P|1||||||19680229",
        "P|1|||||||F",
        "P|1||||||||||Street 1",
        "P|1|||||||||||||Dr. Who",
        "P|1||||\\HOLUB",
        "P|1" + "|" * 24 + "Ward 3",
        "P|1||||CONTROL^Quentin",
    ],
)
def test_a_patient_record_with_content_is_that_of_a_patient(patient: str) -> None:
    played = astm_played(HEADER, patient, CONTROL, RESULT, "C|1|I|27|I")
    assert (played.findings, played.counts) == ([], DROPPED)


@pytest.mark.parametrize("patient", ["P|1", "P|1|||^^||||U||||||^", "P", "P|1|  |\\", None])
def test_a_patient_record_without_content_is_none(patient: str | None) -> None:
    records = [] if patient is None else [patient]
    assert astm_played(HEADER, *records, CONTROL, RESULT).findings == [GLU]


@pytest.mark.parametrize(
    ("header", "order"),
    [
        (HEADER, "O|1|NORM2||^^^798|R"),
        (HEADER, "O|1|NORM2||^^^798|R||||||N"),
        (HEADER, "O|1|QC-1||^^^798|R"),
        (HEADER.replace("|P|1|", "|Q|1|"), "O|1|NORM2||^^^798|R||||||N"),
        (HEADER, "O|1|NORM2||^^^798|R||||||Q\\N"),
        (HEADER, "O|1|NORM2|Q|^^^798|Q|Q|Q|Q|Q|Q||Q|Q|Q|Q"),
    ],
)
def test_an_order_without_the_marker_or_with_another_is_that_of_a_patient(header: str, order: str) -> None:
    played = astm_played(header, "P|1", order, RESULT, RESULT, "C|1|I|27|I")
    assert (played.findings, played.counts) == ([], DROPPED)


@pytest.mark.parametrize("identifier", ["NORM3", "QC-NORM2", "norm2", "NORM2\\NORM2", "", "NORM2X"])
def test_a_marked_order_of_another_control_is_unknown(identifier: str) -> None:
    played = astm_played(HEADER, "P|1", CONTROL.replace("NORM2", identifier), RESULT, RESULT, "C|1|I|27|I")
    assert (played.findings, played.counts) == ([], {Reason.CONTROL_UNKNOWN: 1})


@pytest.mark.parametrize("identifier", ["NORM2", "  NORM2      ", "NORM2^1^2"])
def test_the_id_of_a_control_is_compared_without_blanks(identifier: str) -> None:
    assert astm_played(HEADER, "P|1", CONTROL.replace("NORM2", identifier), RESULT).findings == [GLU]


def test_the_marker_in_the_header_is_sufficient() -> None:
    header = HEADER.replace("|P|1|", "|Q|1|")
    assert astm_played(header, "P|1", "O|1|NORM2||^^^798", RESULT).findings == [GLU]


def test_results_without_an_order_are_those_of_a_patient() -> None:
    assert astm_played(HEADER, RESULT, RESULT).counts == DROPPED
    assert astm_played(HEADER, "P|1", CONTROL, "P|2", RESULT).counts == DROPPED


def test_each_order_of_a_message_is_checked_separately() -> None:
    played = astm_played(
        *(HEADER, "P|1|4711", "O|1|31||^^^798", RESULT, "O|2|32||^^^798", RESULT),
        *("P|2", CONTROL, RESULT, "P|3|4712", CONTROL, RESULT),
    )
    assert (played.findings, played.counts) == ([GLU], {Reason.PATIENT_RESULTS_DROPPED: 3})


@pytest.mark.parametrize(
    ("value", "deviation"),
    [("5.18", 2250), (" 5,18 ", 2250), ("5.18^", 2250), ("^5.18", 2250), ("+4.92", -1000)],
)
def test_a_value_is_a_decimal_number(value: str, deviation: int) -> None:
    (finding,) = astm_played(HEADER, CONTROL, RESULT.replace("5.18", value)).findings
    assert finding.fields == ("glu", 2, deviation)


@pytest.mark.parametrize(
    "value", ["<5.18", "5.18 H", "5.18^5.19", "5.18\\5.19", "POS", "5.1.8", "1e3", "9999999999999"]
)
def test_another_value_is_counted(value: str) -> None:
    played = astm_played(HEADER, CONTROL, RESULT.replace("5.18", value))
    assert (played.findings, played.counts) == ([], {Reason.VALUE_UNREADABLE: 1})


@pytest.mark.parametrize("value", ["", "-----", "***.**", "^"])
def test_a_placeholder_is_no_result(value: str) -> None:
    played = astm_played(HEADER, CONTROL, RESULT.replace("5.18", value))
    assert (played.findings, played.counts) == ([], {})


@pytest.mark.parametrize(
    ("status", "final"),
    [("F", True), ("", True), ("C", True), ("V", True), ("P", False), ("X", False), ("FC", False)],
)
def test_only_final_and_corrected_results_are_reported(status: str, final: bool) -> None:
    played = astm_played(HEADER, CONTROL, RESULT.replace("|F|", f"|{status}|"))
    assert len(played.findings) == final
    assert played.counts == ({} if final else {Reason.RESULT_NOT_FINAL: 1})


@pytest.mark.parametrize(
    ("test", "counts"),
    [
        ("^^^798/", {}),
        ("^^^798/10", {}),
        ("^^^798^Glucose^1", {}),
        ("798", {}),
        ("^^^ 798 ", {}),
        ("^^^799", {Reason.TEST_UNKNOWN: 1}),
        ("^^^TSH", {Reason.CONTROL_UNKNOWN: 1}),
        ("^^^IGN", {}),
        ("", {Reason.TEST_UNKNOWN: 1}),
    ],
)
def test_a_test_is_known_by_its_code(test: str, counts: dict[Reason, int]) -> None:
    played = astm_played(HEADER, CONTROL, RESULT.replace("^^^798", test), ignore=["IGN"])
    assert played.counts == counts
    assert len(played.findings) == (not counts and test != "^^^IGN")


def test_result_records_of_one_test_with_other_components_are_distinguished() -> None:
    final, raw = (RESULT.replace("798", f"798^GLU^UNDILUTED^{kind}") for kind in "FP")
    played = astm_played(HEADER, CONTROL, final, raw, raw.replace("5.18", "13410"))
    assert (played.findings, played.counts) == ([GLU], {Reason.TEST_UNKNOWN: 2})
    replicates = (RESULT.replace("798", f"798^{number}") for number in "12")
    assert astm_played(HEADER, CONTROL, *replicates).findings == [GLU, GLU]


def test_a_site_may_enter_a_test_code_with_the_components_after_it() -> None:
    raw = RESULT.replace("798", "798^GLU^P")
    assert (
        astm_played(HEADER, CONTROL, raw, RESULT, tests={"798^GLU^P": "k", "798": "glu"}).findings[1] == GLU
    )


@pytest.mark.parametrize(
    ("order_time", "result", "time"),
    [
        ("20310304093011", RESULT, "095900"),
        ("20310304093011", "R|1|^^^798|5.18", "093011"),
        ("20310304093011", "R|1|^^^798|5.18||||||||20310304094000", "094000"),
        ("20310304", "R|1|^^^798|5.18||||||||||20310304", "100000"),
        ("", "R|1|^^^798|5.18", "100000"),
    ],
)
def test_the_time_is_that_of_the_result_else_of_the_order_else_of_the_message(
    order_time: str, result: str, time: str
) -> None:
    (finding,) = astm_played(HEADER, CONTROL + "|" * 11 + order_time, result).findings
    (expected,) = astm_played(HEADER, CONTROL, f"R|1|^^^798|5.18|||||||||20310304{time}").findings
    assert finding == expected


def test_without_any_time_a_report_has_none() -> None:
    (finding,) = astm_played(r"H|\^&", CONTROL, "R|1|^^^798|5.18").findings
    assert finding.at_ms is None
    assert astm_played(HEADER, CONTROL, RESULT, time="reception").findings[0].at_ms is None


ALERT = Finding(Alert, ("E0001", "software", "error"), 1930381200000)
"""It has the time of the message, so that a repetition can be recognized."""


def test_an_alarm_of_a_control_or_of_the_message_is_an_alert_after_the_results() -> None:
    played = astm_played(HEADER, "C|1|I|27^text|I", "P|1", CONTROL, "C|1|I|27|I", RESULT)
    assert (played.findings, played.counts) == ([GLU, ALERT, ALERT], {})


@pytest.mark.parametrize(
    "comment", ["C|1|I|27|G", "C|1|I|27|", "C|1|I|27", "C|1|I|0|I", "C|1|I||I", "C|1|L|free text|G"]
)
def test_another_comment_is_not_read(comment: str) -> None:
    played = astm_played(HEADER, CONTROL, comment, RESULT)
    assert (played.findings, played.counts) == ([GLU], {})


def test_an_alarm_that_the_site_has_not_entered_is_counted() -> None:
    assert astm_played(HEADER, CONTROL, "C|1|I|28|I").counts == {Reason.ALARM_UNKNOWN: 1}


def test_an_alarm_in_a_message_without_terminator_is_an_alert() -> None:
    port = port_of({**CONFIG, "dialect": {"terminator": "absent"}})
    stream = session(HEADER, "C|1|I|27|I", CONTROL, RESULT)
    assert play(astm_engine(port), [stream]).findings == [GLU, ALERT]


def test_an_alarm_may_be_entered_with_its_field() -> None:
    alarms = {"C-4:28": {"code": "E0001", "component": "software", "severity": "error"}}
    assert astm_played(HEADER, CONTROL, "C|1|I|28|I", alarms=alarms).findings == [ALERT]


@pytest.mark.parametrize("before", [["P|1"], ["P|1|4711"], ["P|1", "O|1|31||^^^798"], [CONTROL, "P|2"]])
def test_a_comment_on_a_patient_or_sample_is_not_read(before: list[str]) -> None:
    played = astm_played(HEADER, *before, "C|1|I|27|I", "C|1|I|28|I")
    assert (played.findings, played.counts) == ([], {})


def test_a_query_is_counted_and_not_answered() -> None:
    played = astm_played(HEADER, "Q|1|^31||ALL||||||||O")
    assert played.counts == {Reason.QUERY_IGNORED: 1}
    assert played.sent == [ACK] * 4


@pytest.mark.parametrize(
    "record", ["M|1|HISTOGRAM|" + "A" * 20_000, "S|1", "X|1", "HX|1", "RX|1", "", "PO|1", "?"]
)
def test_other_records_are_not_read(record: str) -> None:
    played = astm_played(HEADER, CONTROL, record, RESULT)
    assert (played.findings, played.counts) == ([GLU], {})


def test_a_message_without_a_header_is_refused() -> None:
    played = astm_played("P|1", CONTROL, RESULT)
    assert (played.findings, played.counts) == ([], {Reason.MESSAGE_REFUSED: 1})


def test_a_header_in_a_message_begins_a_new_one() -> None:
    played = astm_played(HEADER, CONTROL, RESULT, HEADER, CONTROL, RESULT)
    assert (played.findings, played.counts) == ([GLU], {Reason.MESSAGE_UNFINISHED: 1})


def test_messages_in_one_frame_are_stored_together() -> None:
    message = [HEADER, CONTROL, RESULT, "L|1|N"]
    style = FrameStyle(60_000, record_per_frame=False)
    played = play(astm_engine(port_of(CONFIG)), [session(*message * 3, style=style)])
    assert (played.findings, played.sent) == ([GLU] * 3, [ACK, ACK])


@pytest.mark.parametrize(("number", "counts"), [(256, {}), (257, {Reason.MESSAGE_REFUSED: 1})])
def test_a_message_has_at_most_256_findings(number: int, counts: dict[Reason, int]) -> None:
    played = astm_played(HEADER, CONTROL, *[RESULT] * number)
    assert (len(played.findings), played.counts) == (0 if counts else 256, counts)


def test_a_record_that_is_too_long_yields_no_truncated_value() -> None:
    played = astm_played(HEADER, CONTROL, f"R|1|^^^798|5.18{'0' * 9000}", RESULT + "|" + "x" * 9000, RESULT)
    assert (played.findings, played.counts) == ([GLU], {Reason.VALUE_UNREADABLE: 2})


@pytest.mark.parametrize("ends", [["L|1|N"], ["l|1"], ["L"], ["L|1|N", ""]])
def test_forms_of_the_terminator(ends: list[str]) -> None:
    assert play(astm_engine(port_of(CONFIG)), [session(HEADER, CONTROL, RESULT, *ends)]).findings == [GLU]


@pytest.mark.parametrize(("terminator", "findings"), [("required", []), ("absent", [GLU, GLU])])
def test_a_message_without_terminator_ends_at_the_next_header_or_eot_if_configured(
    terminator: str, findings: list[Finding]
) -> None:
    port = port_of({**CONFIG, "dialect": {"terminator": terminator}})
    played = play(astm_engine(port), [session(*[HEADER, CONTROL, RESULT] * 2)])
    assert played.findings == findings


DIALECTS: list[tuple[dict[str, Any], list[str]]] = [
    ({"control-id": "P-4"}, [HEADER, "P|1||NORM2", "O|1|31||^^^798|R||||||Q", RESULT]),
    ({"control-id": "O-4.2"}, [HEADER, "P|1", "O|1||x^NORM2|^^^798|R||||||Q", RESULT]),
    ({"control-markers": "O-16:CTRL"}, [HEADER, "P|1", "O|1|NORM2||^^^798|||||||||||CTRL^^LOW", RESULT]),
    ({"control-markers": "H-12:Q"}, [HEADER.replace("|P|1|", "|Q|1|"), "O|1|NORM2||^^^798|||||||N", RESULT]),
    ({"result-statuses": "P"}, [HEADER, CONTROL, RESULT.replace("|F|", "|P|")]),
]


@pytest.mark.parametrize(("dialect", "records"), DIALECTS)
def test_dialects_of_records(dialect: dict[str, Any], records: list[str]) -> None:
    assert astm_played(*records, dialect=dialect).findings == [GLU]
    assert astm_played(*records).findings == []


def test_an_alarm_type_of_the_dialect_is_read() -> None:
    played = astm_played(HEADER, CONTROL, "C|1|I|27|G", dialect={"alarm-types": "IG"})
    assert played.findings == [ALERT]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "gb18030", "shift_jis"])
def test_codes_are_compared_in_the_encoding_of_the_instrument(encoding: str) -> None:
    code = {"latin-1": "Zoë", "utf-8": "Zoë", "gb18030": "亅亖", "shift_jis": "ソ表"}[encoding]
    if encoding in ("gb18030", "shift_jis"):  # a second byte is a delimiter
        assert set(code.encode(encoding)) & set(b"|^\\&")
    played = astm_played(
        HEADER,
        CONTROL,
        RESULT.replace("798", code),
        tests={code: "glu"},
        encoding=encoding,
        dialect={"encoding": encoding},
    )
    assert played.findings == [GLU]


@pytest.mark.parametrize("delimiters", [r"|\^&", r"|@^\ "[:4], "!~$%", "|^~\\"])
def test_the_header_declares_the_delimiters(delimiters: str) -> None:
    table = str.maketrans("|\\^&", delimiters)
    records = (record.translate(table) for record in (HEADER, CONTROL, RESULT, "L|1|N"))
    assert play(astm_engine(port_of(CONFIG)), [session(*records)]).findings == [GLU]


@pytest.mark.parametrize("header", ["H", "H|", "H|\\", "H||||", "H|\\^", "H|||||host", "H|ABC|||", "H|^^^|"])
def test_a_header_without_valid_delimiters_has_the_default_ones(header: str) -> None:
    (finding,) = astm_played(header, CONTROL, RESULT).findings
    assert finding.fields == GLU.fields


def test_escapes_in_codes_are_replaced() -> None:
    played = astm_played(HEADER, CONTROL, RESULT.replace("798", "A&F&B&X41&&H&C&"), tests={"A|BAC&": "glu"})
    assert played.findings == [GLU]


@pytest.mark.parametrize(
    ("dialect", "problem"),
    [
        ({"checksums": "absent"}, "options of ASTM are checksum, frame-end"),
        ({"checksum": "none"}, r"\(option `checksum`\)"),
        ({"control-id": "R-3"}, r"\(option `control-id`\)"),
        ({"xon-xoff": "yes"}, r"Expected `bool`, got `str` \(option `xon-xoff`\)"),
    ],
)
def test_an_invalid_option_is_refused_with_the_expected_values(dialect: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        astm_engine(port_of({**CONFIG, "dialect": dialect}))
