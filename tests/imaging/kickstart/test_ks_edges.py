"""Boundary values of the rules: of two neighbouring values, a rule reports the wrong one and not the right one.

They are data, in `edges/`, one file for each module of rules: in `lines`, a kickstart, each of the values in `wrong`
and `right` stands for `{}` in turn. `rule` must report the wrong ones and none of the right ones; other rules may
report something, too, but pykickstart accepts all lines, except those of the rule `syntax`. `release` and
`disk_bytes` select another system. Severity, line and text of the findings are those of `findings/`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.imaging.edges import EDGES, FOLDER, findings, recorded, shown

PLACES = [(stem, number) for stem, edges in EDGES.items() for number in range(len(edges))]


@pytest.mark.parametrize(
    ("stem", "number"), PLACES, ids=[f"{EDGES[stem][n]['rule']}-{stem}-{n}" for stem, n in PLACES]
)
def test_a_rule_reports_exactly_the_wrong_boundary_values(stem: str, number: int, tmp_path: Path) -> None:
    edge = EDGES[stem][number]
    found = {value: findings(edge, value, tmp_path) for value in (*edge["wrong"], *edge["right"])}
    rules = {value: {finding.rule for finding in those} for value, those in found.items()}
    assert [value for value in found if edge["rule"] in rules[value]] == edge["wrong"]
    assert edge["rule"] == "syntax" or not [value for value in found if "syntax" in rules[value]]
    assert all(finding.problem and finding.repair for those in found.values() for finding in those)
    assert shown(edge, found) == recorded(stem)[number], "if the change is intended, run `make golden`"


def test_each_file_of_findings_has_its_boundary_values() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(EDGES)
