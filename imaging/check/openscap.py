"""OpenSCAP on a system that is not running: `oscap` with OSCAP_PROBE_ROOT, as oscap-chroot uses it.

The content checks two kinds of rules on the running system; here, the tree's files decide them:

    sysctl      the rules check the configured and the current value; the definition "…_static" checks only the
                configured one
    services    the probe asks systemd over D-Bus; instead, `systemctl --root` reads the same links as systemd. The
                service is part of the names of ComplianceAsCode's rules, and of the OVAL definitions of DISA's

Rules that cannot be decided have the result "unknown"; see `imaging.check.reasons`.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from imaging.check.content import Benchmark, content_for, read_benchmark, system_name
from imaging.check.reasons import NOT_SELECTED, RuleResult
from imaging.check.types import SEVERITIES, InvalidCheckInput
from imaging.check.view import run_on_view
from imaging.programs import require_programs, require_root

RULE: Final = "xccdf_org.ssgproject.content_rule_"
PROFILE: Final = "stig"
IDLE_SECONDS_MAX: Final = 60
"""The scanner, which uses the processor continuously, counts as blocked after this time without processor use."""
TRIES: Final = 3
DATABASES: Final = ("var/lib/rpm", "usr/lib/sysimage/rpm")
_XCCDF: Final = "{http://checklists.nist.gov/xccdf/1.2}"
_OVAL: Final = "{http://oval.mitre.org/XMLSchema/oval-results-5}"
_DEFINITIONS: Final = "{http://oval.mitre.org/XMLSchema/oval-definitions-5}"
_LINUX: Final = "{http://oval.mitre.org/XMLSchema/oval-definitions-5#linux}"
_SERVICE: Final = re.compile(r"service_(.+)_(enabled|disabled)")
_ON: Final = frozenset({"enabled", "enabled-runtime", "static", "alias", "indirect"})
_WANTED: Final = {
    ("ActiveState", "active"): True,
    ("SubState", "running"): True,
    ("ActiveState", "inactive"): False,
    ("UnitFileState", "enabled"): True,
    ("UnitFileState", "disabled"): False,
    ("UnitFileState", "masked"): False,
    ("LoadState", "masked"): False,
}
"""Whether a unit must start, by the property of systemd and its value that a rule requires."""


@dataclass(frozen=True)
class ScanReports:
    """The files for OpenSCAP's reports, each optional: `report` in HTML, and `arf` in ARF (XML)."""

    report: Path | None = None
    arf: Path | None = None

    def check(self) -> None:
        """Check that the reports can be written; oscap does not report an error. Raises: InvalidCheckInput."""
        for option, file in (("--report", self.report), ("--arf", self.arf)):
            if file and (file.is_dir() or not file.absolute().parent.is_dir()):
                raise InvalidCheckInput(f"{option} {file}: is not a file in an existing folder")


def scan(
    tree: Path, content: Path, wanted: ScanReports = ScanReports(), profile: str = PROFILE
) -> list[RuleResult]:
    """Evaluate every rule of a profile on the system in `tree`.

    `profile` is the profile's id, or its name such as "cis" or "MAC-1_Classified". Rules of the content that the
    profile does not select have the result `NOT_SELECTED`. Raises: InvalidCheckInput, PrerequisiteMissing.
    """
    require_programs(("oscap", "unshare", "systemctl"))
    require_root("the scanner must read every file of the system, which requires root")
    wanted.check()
    tree = tree.resolve()
    folders = (path for path in DATABASES if (tree / path).is_dir())
    # the database folder in an image's /var is empty: the slot has the database
    database = min(folders, key=lambda path: not (tree / path / "rpmdb.sqlite").exists(), default=None)
    if database is None:
        raise InvalidCheckInput(
            f"{tree}: has no package database ({' or '.join(DATABASES)}); give the folder of a system"
        )
    with tempfile.TemporaryDirectory(prefix="rap-check-") as name:
        folder = Path(name)
        (folder / ".rpmmacros").write_text(f"%_dbpath /{database}\n")
        benchmark = read_benchmark(content)
        chosen = benchmark.profile(profile, content)
        (folder / "content.xml").write_bytes(content_for(content, tree))
        _run(tree, folder, wanted, chosen)
        results = list(_read(tree, folder, benchmark))
    if all(one.result in ("notapplicable", NOT_SELECTED) for one in results):
        raise InvalidCheckInput(
            f"{content}: no rule applies to {system_name(tree)}; give the content for that system with --content"
        )
    return results


def _run(tree: Path, folder: Path, wanted: ScanReports, profile: str) -> None:
    command = ["oscap", "xccdf", "eval", "--progress", "--profile", profile, "--oval-results"]
    command += ["--results", "results.xml"]
    for option, file in (("--report", wanted.report), ("--results-arf", wanted.arf)):
        command += [option, str(file.absolute())] if file else []
    environment = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "HOME": str(folder),
        "OSCAP_PROBE_ROOT": str(folder / "layer/view"),
        "OSCAP_EVALUATION_TARGET": f"chroot://{tree.name}",
    }
    done = _run_again(tree, folder, [*command, "content.xml"], environment)
    if done.returncode not in (0, 2):  # 2: some rule failed
        messages = [line for line in done.stderr.splitlines() if not line.startswith(("W:", "WARNING"))]
        raise InvalidCheckInput(f"oscap failed with exit status {done.returncode}: {' '.join(messages[-4:])}")


def _run_again(
    tree: Path, folder: Path, command: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the scanner, again if it does not end: threads of OpenSCAP 1.3.7 can deadlock.

    Raises: InvalidCheckInput.
    """
    for _ in range(TRIES):
        with suppress(subprocess.TimeoutExpired):
            return run_on_view(tree, folder, command, environment, IDLE_SECONDS_MAX)
    raise InvalidCheckInput(
        f"oscap used no processor time for {IDLE_SECONDS_MAX} s, in {TRIES} tries; use another version of OpenSCAP"
    )


def _read(tree: Path, folder: Path, benchmark: Benchmark) -> Iterator[RuleResult]:
    root = ElementTree.parse(folder / "results.xml").getroot()  # noqa: S314 - oscap's own
    rules = {str(rule.get("id")): rule for rule in root.iter(f"{_XCCDF}Rule")}
    definitions = dict(_definitions(folder))
    units = dict(_units(folder))
    for element in root.iter(f"{_XCCDF}rule-result"):
        result = _text(element, "result")
        rule = rules[str(element.get("idref"))]
        name = benchmark.rule_name(str(rule.get("id")), _text(rule, "version"))
        severity = str(element.get("severity"))
        if result not in ("notapplicable", NOT_SELECTED):
            result = _by_files(name, tree, definitions) or result
        if result == "unknown":
            result = _by_units(rule, tree, units) or result
        yield RuleResult(name, severity if severity in SEVERITIES else "low", _text(rule, "title"), result)


def _by_files(rule: str, tree: Path, definitions: Mapping[str, str]) -> str:
    """Return the result of a rule about the running system, decided by the tree's files; "" for other rules."""
    if configured := definitions.get(f"oval:ssg-{rule}_static:def:1"):
        return "pass" if configured == "true" else "fail"
    if service := _SERVICE.fullmatch(rule):
        name, wanted = service.groups()
        return "pass" if (_state(tree, f"{name}.service") in _ON) == (wanted == "enabled") else "fail"
    return ""


def _by_units(rule: Element, tree: Path, units: Mapping[str, Sequence[tuple[str, bool]]]) -> str:
    """Return the result of a rule that tests only unit states, decided by the tree's links; "" for other rules."""
    wanted = [units.get(str(ref.get("name"))) for ref in rule.iter(f"{_XCCDF}check-content-ref")]
    if len(wanted) != 1 or not wanted[0]:
        return ""
    passed = all((_state(tree, unit) in _ON) == on for unit, on in wanted[0])
    return "pass" if passed else "fail"


def _units(folder: Path) -> Iterator[tuple[str, Sequence[tuple[str, bool]]]]:
    """Yield each OVAL definition that tests only unit states: its units, each with whether it must start."""
    for file in folder.glob("*oval.xml.result.xml"):
        root = ElementTree.parse(file).getroot()  # noqa: S314 - oscap's own
        unit_tests = {
            str(test.get("id")): _unit_of(test, root)
            for test in root.iter(f"{_LINUX}systemdunitproperty_test")
        }
        if not unit_tests:
            continue
        definitions = {str(one.get("id")): one for one in root.iter(f"{_DEFINITIONS}definition")}
        for name, definition in definitions.items():
            if units := _only_units(definition, definitions, unit_tests):
                yield name, units


def _only_units(
    definition: Element,
    definitions: Mapping[str, Element],
    unit_tests: Mapping[str, tuple[str, bool] | None],
) -> list[tuple[str, bool]]:
    """Return the units of a definition and of those that it extends; [] if it tests more, or has alternatives."""
    if any(one.get("operator", "AND") != "AND" for one in definition.iter(f"{_DEFINITIONS}criteria")):
        return []
    units = [unit_tests.get(str(one.get("test_ref"))) for one in definition.iter(f"{_DEFINITIONS}criterion")]
    for other in definition.iter(f"{_DEFINITIONS}extend_definition"):
        extended = definitions[str(other.get("definition_ref"))]
        units += _only_units(extended, definitions, unit_tests) or [None]
    return [one for one in units if one] if all(units) else []


def _unit_of(test: Element, root: Element) -> tuple[str, bool] | None:
    """Return the unit of a test of systemd's properties, and whether it must start; None for other tests."""
    parts = {str(part.get("object_ref") or part.get("state_ref")) for part in test}
    values = {
        child.tag.removeprefix(_LINUX): (child.text or "").strip()
        for part in root.iter()
        if part.get("id") in parts
        for child in part
    }
    on = _WANTED.get((values.get("property", ""), values.get("value", "")))
    return (values["unit"], on) if "unit" in values and on is not None else None


def _state(tree: Path, unit: str) -> str:
    done = subprocess.run(
        ["systemctl", f"--root={tree}", "is-enabled", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def _definitions(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the OVAL result of each definition."""
    for file in folder.glob("*oval.xml.result.xml"):
        for element in ElementTree.parse(file).getroot().iter(f"{_OVAL}definition"):  # noqa: S314 - oscap's own
            yield str(element.get("definition_id")), str(element.get("result"))


def _text(element: Element, name: str) -> str:
    child = element.find(f"{_XCCDF}{name}")
    return " ".join("".join(child.itertext()).split()) if child is not None else ""
