"""The result of a lab, and its JSON document."""

import json
from collections.abc import Callable

import msgspec
import pytest

from sim.verdict.result import Result, to_document, to_json
from tests.support.sim.report_examples import bare, failing, passing

DOCUMENTED = {
    "lab": str,
    "world": str,
    "seed": int,
    "verdict": str,
    "expectations": list,
    "reports": dict,
    "uplink": dict,
    "faults": list,
    "sim_seconds": float,
    "wall_seconds": float,
    "trace_sha256": str,
}


@pytest.mark.parametrize("make", [passing, failing, bare])
def test_the_document_has_the_required_keys(make: Callable[[], Result]) -> None:
    document = json.loads(to_json(make()))
    assert {key: type(document[key]) for key in DOCUMENTED} == DOCUMENTED
    assert set(document["reports"]) == {
        "made",
        "acknowledged",
        "stored",
        "waiting",
        "lost",
        "duplicates",
        "dropped",
    }
    assert {"bytes_up", "bytes_down", "seconds_busy"} <= set(document["uplink"])
    for expectation in document["expectations"]:
        assert {"name", "limit", "measured", "holds"} <= set(expectation)


def test_the_times_of_faults_are_in_seconds() -> None:
    assert to_document(passing())["faults"] == [
        {"kind": "link-down", "at": 7200.0, "target": "uplink", "lasts": 10_800.0},
        {"kind": "power-cut", "at": 28_800.0, "target": "box", "lasts": None},
    ]


def test_one_failed_expectation_fails_the_lab() -> None:
    assert passing().verdict == "pass"
    assert failing().verdict == "fail"
    assert to_document(failing())["verdict"] == "fail"


def test_the_series_are_printed_only_on_request() -> None:
    assert "series" not in to_document(passing())
    series = to_document(passing(), with_series=True)["series"]
    assert len(series["bytes_up"]) == len(series["backlog"]["routine"]) == 24 * 60


def test_a_result_is_frozen_and_refuses_unknown_fields() -> None:
    with pytest.raises(AttributeError):
        passing().lab = "another"  # type: ignore[misc]
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert(msgspec.to_builtins(passing()) | {"colour": "red"}, Result)
    assert msgspec.convert(msgspec.to_builtins(failing()), Result) == failing()
