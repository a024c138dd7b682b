"""OpenSCAP on a tree that does not run: `oscap` with OSCAP_PROBE_ROOT, as oscap-chroot does it.

The content checks two kinds of rules on the running system; here they are checked in the tree's files:

    sysctl      rules check the configured and the current value; the former is a definition of its own ("…_static")
    services    the probe asks systemd by D-Bus; `systemctl --root` reads the same links as systemd

Rules that cannot be decided have the result "unknown"; see `imaging.check.reasons`.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from imaging.check.content import content_for, system_name
from imaging.check.reasons import RuleResult
from imaging.check.types import SEVERITIES, WrongCheck
from imaging.check.view import run_on_view
from imaging.programs import require_programs, require_root

RULE: Final = "xccdf_org.ssgproject.content_rule_"
PROFILE: Final = "xccdf_org.ssgproject.content_profile_stig"
DATABASES: Final = ("var/lib/rpm", "usr/lib/sysimage/rpm")
_XCCDF: Final = "{http://checklists.nist.gov/xccdf/1.2}"
_OVAL: Final = "{http://oval.mitre.org/XMLSchema/oval-results-5}"
_SERVICE: Final = re.compile(r"service_(.+)_(enabled|disabled)")
_ON: Final = frozenset({"enabled", "enabled-runtime", "static", "alias", "indirect"})


@dataclass(frozen=True)
class ScanReports:
    """The reports of OpenSCAP to write, if any: HTML for people, ARF for programs."""

    report: Path | None = None
    arf: Path | None = None

    def check(self) -> None:
        """Raises: WrongCheck, if a report cannot be written, which oscap would not report."""
        for option, file in (("--report", self.report), ("--arf", self.arf)):
            if file and (file.is_dir() or not file.absolute().parent.is_dir()):
                raise WrongCheck(f"{option} {file}: is not a file in an existing folder")


def scan(
    tree: Path, content: Path, wanted: ScanReports = ScanReports(), profile: str = PROFILE
) -> list[RuleResult]:
    """Evaluate every rule of a profile on the system in `tree`. Raises: WrongCheck, PrerequisiteMissing."""
    require_programs(("oscap", "unshare", "systemctl"))
    require_root("the scanner must read every file of the system, which needs root rights")
    wanted.check()
    tree = tree.resolve()
    database = next((path for path in DATABASES if (tree / path).is_dir()), None)
    if database is None:
        raise WrongCheck(
            f"{tree}: has no package database ({' or '.join(DATABASES)}); give the folder of a system"
        )
    with tempfile.TemporaryDirectory(prefix="rap-check-") as name:
        place = Path(name)
        (place / ".rpmmacros").write_text(f"%_dbpath /{database}\n")
        (place / "content.xml").write_bytes(content_for(content, tree))
        _run(tree, place, wanted, profile)
        asked = list(_read(tree, place))
    if all(one.result == "notapplicable" for one in asked):
        raise WrongCheck(
            f"{content}: no rule applies to {system_name(tree)}; give the content for that system with --content"
        )
    return asked


def _run(tree: Path, place: Path, wanted: ScanReports, profile: str) -> None:
    command = ["oscap", "xccdf", "eval", "--progress", "--profile", profile, "--oval-results"]
    command += ["--results", "results.xml"]
    for option, file in (("--report", wanted.report), ("--results-arf", wanted.arf)):
        command += [option, str(file.absolute())] if file else []
    environment = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "HOME": str(place),
        "OSCAP_PROBE_ROOT": str(place / "layer/view"),
        "OSCAP_EVALUATION_TARGET": f"chroot://{tree.name}",
    }
    done = run_on_view(tree, place, [*command, "content.xml"], environment)
    if done.returncode not in (0, 2):  # 2: some rule failed
        said = [line for line in done.stderr.splitlines() if not line.startswith(("W:", "WARNING"))]
        raise WrongCheck(f"oscap failed with exit status {done.returncode}: {' '.join(said[-4:])}")


def _read(tree: Path, place: Path) -> Iterator[RuleResult]:
    root = ElementTree.parse(place / "results.xml").getroot()  # noqa: S314 - oscap's own
    titles = {rule.get("id"): _text(rule, "title") for rule in root.iter(f"{_XCCDF}Rule")}
    definitions = dict(_definitions(place))
    for element in root.iter(f"{_XCCDF}rule-result"):
        result = _text(element, "result")
        if result == "notselected":
            continue
        name = str(element.get("idref")).removeprefix(RULE)
        severity = str(element.get("severity"))
        if result != "notapplicable":
            result = _by_files(name, tree, definitions) or result
        title = titles.get(element.get("idref"), "")
        yield RuleResult(name, severity if severity in SEVERITIES else "low", title, result)


def _by_files(rule: str, tree: Path, definitions: Mapping[str, str]) -> str:
    """The result by the tree's files of a rule that checks the running system; "" for other rules."""
    if half := definitions.get(f"oval:ssg-{rule}_static:def:1"):
        return "pass" if half == "true" else "fail"
    if service := _SERVICE.fullmatch(rule):
        name, wanted = service.groups()
        return "pass" if (_state(tree, name) in _ON) == (wanted == "enabled") else "fail"
    return ""


def _state(tree: Path, service: str) -> str:
    done = subprocess.run(
        ["systemctl", f"--root={tree}", "is-enabled", f"{service}.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def _definitions(place: Path) -> Iterator[tuple[str, str]]:
    """The OVAL result of each definition."""
    for file in place.glob("*oval.xml.result.xml"):
        for element in ElementTree.parse(file).getroot().iter(f"{_OVAL}definition"):  # noqa: S314 - oscap's own
            yield str(element.get("definition_id")), str(element.get("result"))


def _text(element: Element, name: str) -> str:
    found = element.find(f"{_XCCDF}{name}")
    return " ".join("".join(found.itertext()).split()) if found is not None else ""
