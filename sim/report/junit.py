"""JUnit XML for Jenkins, GitLab and GitHub Actions: each expectation is a test case, each lab a test suite.

The format is the subset that the JUnit readers of those services share (the schema of Jenkins' xUnit plugin):
https://github.com/jenkinsci/xunit-plugin/blob/master/src/main/resources/org/jenkinsci/plugins/xunit/types/model/xsd/junit-10.xsd
It contains no time stamp, so that the files of equal runs differ only in `time`.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Final

from sim.report.explanation import explanation
from sim.verdict.quantities import limit, measured
from sim.verdict.result import Expectation, Result

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""The characters that an XML 1.0 document must not contain (production 2, Char)."""


def render(result: Result) -> str:
    """Render the XML document as text, to be written in UTF-8."""
    counts = {
        "name": _clean(result.lab),
        "tests": str(len(result.expectations)),
        "failures": str(sum(not expectation.holds for expectation in result.expectations)),
        "errors": "0",
        "time": f"{result.wall_seconds:.3f}",
    }
    suites = ET.Element("testsuites", counts)
    suite = ET.SubElement(suites, "testsuite", counts | {"skipped": "0"})
    _add_properties(suite, result)
    for expectation in result.expectations:
        _add_case(suite, result, expectation)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _add_properties(suite: ET.Element, result: Result) -> None:
    values = {
        "world": result.world,
        "seed": str(result.seed),
        "commit": result.commit or "unknown",
        "sim_seconds": f"{result.sim_seconds:g}",
        "trace_sha256": result.trace_sha256,
        "replay": result.replay,
    }
    properties = ET.SubElement(suite, "properties")
    for name, value in values.items():
        ET.SubElement(properties, "property", {"name": name, "value": _clean(value)})


def _add_case(suite: ET.Element, result: Result, expectation: Expectation) -> None:
    """Add a test case; its time is 0, since all cases are evaluated at the end of one run."""
    attributes = {"classname": f"labs.{_clean(result.lab)}", "name": _clean(expectation.name), "time": "0"}
    case = ET.SubElement(suite, "testcase", attributes)
    if expectation.holds:
        return
    message = f"{expectation.name}: measured {measured(expectation)}, limit {limit(expectation)}"
    failure = ET.SubElement(case, "failure", {"type": "expectation", "message": _clean(message)})
    failure.text = _clean("\n".join([message, *explanation(result, expectation), f"replay: {result.replay}"]))


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
