"""Boundary values of the rules: of two neighbouring values, a rule reports the wrong one and not the right one.

They are data in `tests/fixtures/edges`, one file for each module of rules. In the kickstart `lines`, each value of
`wrong` and `right` in turn replaces `{}`. `rule` must report all wrong values and no right one; other rules may also
report findings, but pykickstart must accept all lines, except those of the rule `syntax`. `release` and `disk_bytes`
select another system. `tests/fixtures/findings` has the findings' severity, line and text.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.imaging.edges import EDGES, FOLDER, findings, recorded, shown

CASES = [(stem, number) for stem, edges in EDGES.items() for number in range(len(edges))]


@pytest.mark.parametrize(
    ("stem", "number"), CASES, ids=[f"{EDGES[stem][n]['rule']}-{stem}-{n}" for stem, n in CASES]
)
def test_a_rule_reports_exactly_the_wrong_boundary_values(stem: str, number: int, tmp_path: Path) -> None:
    edge = EDGES[stem][number]
    by_value = {value: findings(edge, value, tmp_path) for value in (*edge["wrong"], *edge["right"])}
    rules = {value: {finding.rule for finding in all_of_value} for value, all_of_value in by_value.items()}
    assert [value for value in by_value if edge["rule"] in rules[value]] == edge["wrong"]
    assert edge["rule"] == "syntax" or not [value for value in by_value if "syntax" in rules[value]]
    assert all(finding.problem and finding.repair for each in by_value.values() for finding in each)
    assert shown(edge, by_value) == recorded(stem)[number], "if the change is intended, run `make golden`"


def test_each_file_of_findings_has_its_boundary_values() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(EDGES)
