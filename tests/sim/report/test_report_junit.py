"""The report in JUnit XML has the elements and attributes that CI services read."""

import xml.etree.ElementTree as ET
from collections.abc import Callable

import msgspec
import pytest

from sim.report import junit
from sim.verdict.result import Result
from tests.support.sim.report_examples import bare, failing, hostile, passing

# By element: required attributes, optional attributes, and children in order (junit-10.xsd, reduced to what CI
# services have in common).
SHAPE: dict[str, tuple[set[str], set[str], list[str]]] = {
    "testsuites": ({"name", "tests", "failures", "errors", "time"}, set(), ["testsuite"]),
    "testsuite": (
        {"name", "tests", "failures", "errors", "time"},
        {"skipped", "timestamp", "hostname", "id", "package"},
        ["properties", "testcase", "system-out", "system-err"],
    ),
    "properties": (set(), set(), ["property"]),
    "property": ({"name", "value"}, set(), []),
    "testcase": (
        {"name", "classname", "time"},
        {"file", "line"},
        ["skipped", "error", "failure", "system-out"],
    ),
    "failure": ({"message", "type"}, set(), []),
}


def assert_shape(element: ET.Element) -> None:
    required, optional, children = SHAPE[element.tag]
    assert required <= set(element.attrib) <= required | optional
    order = [children.index(child.tag) for child in element]
    assert order == sorted(order)
    for child in element:
        assert_shape(child)


@pytest.mark.parametrize("make", [passing, failing, bare, hostile])
def test_the_document_conforms_to_the_schema(make: Callable[[], Result]) -> None:
    result = make()
    root = ET.fromstring(junit.render(result).encode())
    assert root.tag == "testsuites"
    assert_shape(root)
    (suite,) = root.findall("testsuite")
    assert int(suite.attrib["tests"]) == len(suite.findall("testcase")) == len(result.expectations)
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
    float(suite.attrib["time"])


def test_a_failure_states_measurement_limit_and_replay_command() -> None:
    root = ET.fromstring(junit.render(failing()).encode())
    (lost,) = root.findall(".//testcase[@name='lost']/failure")
    assert lost.text is not None
    assert lost.get("message") == "lost: measured 3, limit = 0"
    assert "the preceding fault: power-cut of box at 08:00:00" in lost.text
    assert "CA-2041 run 1 number 1437" in lost.text
    assert f"replay: {failing().replay}" in lost.text
    assert root.find(".//testcase[@name='duplicates']/failure") is None


def test_characters_that_xml_does_not_allow_are_replaced() -> None:
    text = junit.render(msgspec.structs.replace(passing(), lab="a\x00b\x1b[31m\ud800 <&>"))
    assert (
        ET.fromstring(text.encode()).get("name")
        == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER} <&>"
    )
