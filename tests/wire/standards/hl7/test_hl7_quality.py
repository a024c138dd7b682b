"""Results that are quality control, and results that may belong to a patient."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.wire.hl7 import block, receiver
from tests.support.wire.instrument_cases import Played, play

CONFIG: dict[str, Any] = {
    "tests": {"GLU": "glu", "K": "k", "NA": "na"},
    "controls": {
        "QC-1": {"level": 1, "glu": ["5.00", "0.10"], "k": ["4.0", "0.1"]},
        "QC-2": {"level": 2, "glu": ["9.00", "0.10"]},
    },
    "ignore": ["MEAN", "HIST"],
}
RESULT = "OBX|1|NM|GLU||5.10|mmol/L|||||F|||20310304120000"
PATIENT = {"patient-results-dropped": 1}


def header(kind: str = "OUL^R22", processing: str = "P") -> str:
    return f"MSH|^~\\&|I||Host||20310304123000||{kind}|1|{processing}|2.5.1"


def played(*segments: str | bytes, **config: Any) -> Played:
    return play(receiver(**CONFIG, **config), [block(*segments)])


def specimen(marker: str = "Q", control: str = "QC-1") -> str:
    return f"SPM|1|{control}||SER|||||||{marker}"


def deviations(result: Played) -> list[tuple[str, int, int]]:
    return [(report["assay"], report["level"], report["deviation_msd"]) for report in result.as_reports()]


def test_a_marked_specimen_of_an_entered_control_is_quality_control() -> None:
    result = played(header(), specimen(), "OBR||||GLU", RESULT)
    assert result.as_reports() == [
        {"kind": "quality", "assay": "glu", "level": 1, "deviation_msd": 1000, "at": 1_930_388_400_000}
    ]
    assert not result.audit()


@pytest.mark.parametrize(
    "identification",
    [
        ("PID|1|QC-1",),
        ("PID|1||QC-1^^^lab",),
        ("SPM|1|QC-1&lab||||||||||",),
        ("SPM|1||QC-1||||||||",),
        ("INV|QC-1|OK|CO",),
        ("INV|Norm|OK|CO|||||||||||||QC-1",),
    ],
)
def test_a_control_is_identified_in_any_of_the_usual_fields(identification: tuple[str, ...]) -> None:
    assert deviations(played(header(processing="Q"), *identification, "OBR||||GLU", RESULT)) == [
        ("glu", 1, 1000)
    ]


@pytest.mark.parametrize("order", ["OBR||QC-1||GLU", "OBR|||QC-1^x|GLU"])
def test_a_control_is_identified_in_the_order(order: str) -> None:
    assert deviations(played(header(processing="Q"), order, RESULT)) == [("glu", 1, 1000)]


def test_the_site_can_name_the_field_that_identifies_a_control() -> None:
    segments = header(processing="Q"), "PID|1||QC-2", "OBR|||QC-1|GLU", RESULT
    assert deviations(played(*segments, dialect={"control-id": "OBR-3"})) == [("glu", 1, 1000)]
    assert played(*segments).audit() == {"control-unknown": 1}  # ambiguous


@pytest.mark.parametrize("marker", ["", "P", "q", "QQ", "Q~P", "C", '""', "P^Q"])
def test_a_result_with_a_controls_id_and_no_marker_is_a_patients(marker: str) -> None:
    result = played(header(), specimen(marker), "OBR||QC-1||GLU", RESULT)
    assert not result.findings and result.audit() == PATIENT


@pytest.mark.parametrize("marker", ["P", "B", "C"])
def test_a_result_with_contradicting_markers_is_a_patients(marker: str) -> None:
    result = played(header(processing="Q"), specimen(marker), "OBR||||GLU", RESULT)
    assert not result.findings and result.audit() == PATIENT


@pytest.mark.parametrize(
    "person",
    [
        "PID|1||QC-1||Any^Name",
        "PID|1||QC-1||^Name",
        "PID|1||QC-1|| ",
        "PID|1||QC-1||~Name",
        "PID|1||QC-1|||Mother",
        "PID|1||QC-1||||||Alias",
        "PID|1||QC-1||||||||Street",
        "PID|1||QC-1||||||||||555",
        "NK1|1|Any^Name",
    ],
)
def test_a_result_with_any_data_of_a_person_is_a_patients(person: str) -> None:
    result = played(header(processing="Q"), person, specimen(), "OBR||||GLU", RESULT)
    assert not result.findings and result.audit() == PATIENT


@pytest.mark.parametrize(
    "pid", ["PID|1||QC-1", "PID|1||QC-1|||||||", 'PID|1||QC-1||""', "PID|1||QC-1||^^||20311231"]
)
def test_a_lot_and_its_expiry_are_not_data_of_a_person(pid: str) -> None:
    assert len(played(header(processing="Q"), pid, "OBR||||GLU", RESULT).findings) == 1


def test_an_id_that_only_resembles_a_control_is_never_quality_control() -> None:
    for control in ("QC-1x", "QC-", "qc-1", "CONTROL, Quentin", "QC-3"):
        marked = played(header(), specimen(control=control), "OBR||||GLU", RESULT)
        assert not marked.findings and marked.audit() == {"control-unknown": 1}
        assert played(header(), specimen("P", control), "OBR||||GLU", RESULT).audit() == PATIENT


def test_each_group_of_a_message_is_checked_separately() -> None:
    result = played(
        header("ORU^R01", "Q"),
        *("PID|1||QC-1", "OBR|1|||GLU", RESULT),
        *("PID|2||QC-2||Any^Name", "OBR|2|||GLU", RESULT, "OBR|3|||GLU", RESULT),
        *("PID|3||QC-2", "OBR|4|||GLU", "OBX|1|NM|GLU||9.1"),
    )
    assert deviations(result) == [("glu", 1, 1000), ("glu", 2, 1000)]
    assert result.audit() == {"patient-results-dropped": 2}


def test_the_marker_and_the_id_of_a_specimen_apply_to_its_group_only() -> None:
    marked = header(), specimen(), "OBR|1|||GLU", RESULT
    assert played(*marked, "PID|2||QC-2", "OBR|2|||GLU", RESULT).audit() == PATIENT
    result = played(header(processing="Q"), *marked[1:], "PID|2||QC-2", "OBR|2|||GLU", RESULT)
    assert deviations(result) == [("glu", 1, 1000), ("glu", 2, -39_000)]


def test_a_specimen_after_the_results_belongs_to_them_in_an_oru() -> None:
    result = played(
        header("ORU^R01"), "OBR|1|||GLU", RESULT, specimen(), "OBR|2|||GLU", RESULT, specimen("P")
    )
    assert deviations(result) == [("glu", 1, 1000)]
    assert result.audit() == PATIENT


def test_a_specimen_before_the_orders_belongs_to_all_of_them_in_an_oul() -> None:
    result = played(
        *(header(), specimen(), "OBR|1|||GLU", RESULT, "OBR|2|||K", "OBX|1|NM|K||3.9"),
        *(specimen("P", "5500417"), "OBR|3|||GLU", RESULT, specimen(control="QC-2"), "OBR|4|||GLU", RESULT),
    )
    assert deviations(result) == [("glu", 1, 1000), ("k", 1, -1000), ("glu", 2, -39_000)]
    assert result.audit() == PATIENT


@pytest.mark.parametrize(
    ("result", "audit"),
    [
        ("OBX|1|NM|GLU||**.**", {}),
        ("OBX|1|NM|GLU||-----", {}),
        ("OBX|1|NM|GLU||", {}),
        ('OBX|1|NM|GLU||""', {}),
        ("OBX|1|NM|GLU||5.1||||||X", {}),
        ("OBX|1|NM|GLU||5.1||||||D", {}),
        ("OBX|1|ED|IMG||^Image^BMP^Base64^Qk0", {}),
        ("OBX|1|IS|LEVEL||M", {}),
        ("OBX|1|ST|GLU||see note", {}),
        ("OBX|1|NM|HIST||1", {}),
        ("OBX|1|NM|XX||1", {"test-unknown": 1}),
        ("OBX|1|NM|NA||140", {"control-unknown": 1}),
        ("OBX|1|NM|GLU||<0.5", {"value-unreadable": 1}),
        ("OBX|1|NM|GLU||5.1~5.2", {"value-unreadable": 1}),
        ("OBX|1|NM|GLU||1e3", {"value-unreadable": 1}),
        ("OBX|1|SN|GLU||>^5", {"value-unreadable": 1}),
        ("OBX|1|SN|GLU||^5^-^6", {"value-unreadable": 1}),
        ("OBX|1|NM|GLU||999999999999", {"value-unreadable": 1}),  # a deviation that no report can hold
    ],
)
def test_a_result_without_a_usable_value_yields_no_report(result: str, audit: dict[str, int]) -> None:
    outcome = played(header(), specimen(), "OBR||||GLU", result)
    assert not outcome.findings and outcome.audit() == audit


@pytest.mark.parametrize(
    "value", ["NM|GLU||5.100000000", "NM|GLU||5,1", "ST|GLU|| 5.1 ", "SN|GLU||^5.1", "SN|GLU||=^5.1"]
)
def test_a_value_is_a_decimal_number(value: str) -> None:
    assert deviations(played(header(), specimen(), "OBR||||GLU", f"OBX|1|{value}")) == [("glu", 1, 1000)]


def test_an_ignored_service_is_not_counted_even_for_a_patient() -> None:
    result = played(header(), specimen(), "OBR||||MEAN", RESULT, specimen("P"), "OBR||||MEAN", RESULT)
    assert not result.findings and not result.audit()


@pytest.mark.parametrize(
    ("result_time", "order_time", "at"),
    [
        ("|20310304110000|||||20310304120000", "20310304100000", 1_930_388_400_000),
        ("|20310304110000", "20310304100000", 1_930_384_800_000),
        ("", "20310304100000", 1_930_381_200_000),
        ("", "20310304", 1_930_390_200_000),
        ("|yesterday", "", 1_930_390_200_000),
    ],
)
def test_the_time_is_that_of_the_analysis_observation_order_or_message(
    result_time: str, order_time: str, at: int
) -> None:
    result = f"OBX|1|NM|GLU||5.1||||||F||{result_time}"
    (report,) = played(header(), specimen(), f"OBR||||GLU|||{order_time}", result).as_reports()
    assert report["at"] == at
