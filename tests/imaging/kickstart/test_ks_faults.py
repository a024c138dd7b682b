"""Planted faults: each is reported by its rule, on its line, with its repair; every rule has at least one.

The faults are data in `tests/fixtures/faults`, in one or two files for each module of rules. In the box's own
kickstart, `old` is replaced by `new`; then only `rule` must report it, on the line that contains `at` (default:
`new`), with a message that contains `message`. `also` names other rules that correctly report the fault. `{other}` in
`message` is the number of the first line that begins with `other`, so that new lines need no change of the message.
`site` and `release` select another kickstart. `risky` faults are warnings of a rule that otherwise reports errors.
pykickstart accepts all faults except those with `refused`.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from pykickstart.errors import KickstartError
from pykickstart.parser import KickstartParser

from imaging.kickstart.data import releases
from imaging.kickstart.document import SourceLocation
from imaging.kickstart.handler import new_handler
from imaging.kickstart.lint import LintFinding, lint
from imaging.kickstart.rule import LintFault, severity
from imaging.kickstart.rules import all_rules
from imaging.repository.repository import Repository
from settings.board import load_board
from tests.support.imaging.kickstarts import SITES, check, good, good_for, planted
from tests.support.imaging.repositories import BOX, BOX_COMPS, write_repository
from tests.support.paths import FIXTURES

FAULTS: Final[list[dict[str, Any]]] = [
    fault
    for path in sorted((FIXTURES / "faults").glob("*.toml"))
    for fault in tomllib.loads(path.read_text("utf-8"))["fault"]
]


def expected_message(fault: dict[str, Any], text: str) -> str:
    """Return the expected message of the finding in the kickstart `text`."""
    expected: str = fault["message"]
    if "other" not in fault:
        return expected
    lines = text.splitlines()
    number = 1 + next(n for n, line in enumerate(lines) if line.startswith(fault["other"]))
    return expected.replace("{other}", str(number))


def is_risky(finding: LintFinding) -> bool:
    """Return whether the finding is a warning although its rule reports errors."""
    usual = severity(finding.rule, LintFault(SourceLocation(1, ""), "", ""))
    return finding.severity != usual


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository.load(write_repository(tmp_path_factory.mktemp("repo"), BOX, BOX_COMPS))


@pytest.mark.parametrize("site", SITES)
def test_before_a_fault_is_planted_there_are_no_findings(
    site: str, tmp_path: Path, repository: Repository
) -> None:
    kickstart = tmp_path / "box.ks"
    kickstart.write_text(good(site, "almalinux9"))
    assert check(kickstart, repository).findings == []


@pytest.mark.parametrize("fault", FAULTS, ids=[fault["name"] for fault in FAULTS])
def test_a_planted_fault_is_found(fault: dict[str, Any], tmp_path: Path, repository: Repository) -> None:
    wrong, line = planted(good_for(fault), fault)
    kickstart = tmp_path / "box.ks"
    kickstart.write_text(wrong)
    findings = check(kickstart, repository).findings
    assert {finding.rule for finding in findings} == {fault["rule"], *fault.get("also", ())}
    finding = next(finding for finding in findings if finding.rule == fault["rule"])
    assert expected_message(fault, wrong) in f"{finding.problem}; {finding.repair}"
    assert finding.line == line
    assert finding.repair
    assert is_risky(finding) == fault.get("risky", False)


@pytest.mark.filterwarnings("ignore::pykickstart.errors.KickstartParseWarning")
@pytest.mark.parametrize("fault", FAULTS, ids=[fault["name"] for fault in FAULTS])
def test_pykickstart_accepts_a_planted_fault_unless_marked(fault: dict[str, Any]) -> None:
    wrong, _line = planted(good_for(fault), fault)
    release = releases()[fault.get("release", "almalinux9")]
    parser = KickstartParser(new_handler(release.version), followIncludes=False)
    if fault.get("refused"):
        with pytest.raises(KickstartError):
            parser.readKickstartFromString(wrong)
    else:
        parser.readKickstartFromString(wrong)


@pytest.mark.parametrize(("bytes_short", "rules"), [(0, set()), (1, {"disk-too-small"})])
def test_a_disk_needs_the_partitions_the_tables_and_the_identity(
    bytes_short: int, rules: set[str], tmp_path: Path, repository: Repository
) -> None:
    kickstart = tmp_path / "box.ks"
    kickstart.write_text(text := good("", "almalinux9"))
    sizes = [int(size) for size in re.findall(r"^part .*--size=(\d+)", text, re.MULTILINE)]
    needed = (sum(sizes) + 2 + 1 + 8) * 2**20  # tables (UEFI 2.10, chapter 5), identity, slot state
    report = lint(kickstart, "", [repository], load_board("rap-4"), needed - bytes_short)
    assert {finding.rule for finding in report.findings} == rules


def test_every_rule_has_a_planted_fault() -> None:
    assert set(all_rules()) == {fault["rule"] for fault in FAULTS}


def test_every_rule_names_its_source() -> None:
    assert [name for name, check in all_rules().items() if "Source: " not in (check.__doc__ or "")] == []
