"""Boundary values of the rules: of two neighbouring values, a rule reports the wrong one and not the right one.

They are data, in `edges/`, one file for each module of rules: in `lines`, a kickstart, each of the values in `wrong`
and `right` stands for `{}` in turn. `rule` must report the wrong ones and none of the right ones; other rules may
report something, too, but pykickstart accepts all lines.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from imaging.kickstart.lint import lint
from settings.board import load_board
from tests.support.paths import FIXTURES

EDGES: Final[list[dict[str, Any]]] = [
    edge
    for path in sorted((FIXTURES / "edges").glob("*.toml"))
    for edge in tomllib.loads(path.read_text("utf-8"))["edge"]
]
PACKAGES: Final = "%packages\n@core\n%end\n"


def reporting(lines: str, folder: Path) -> set[str]:
    """The rules that report something."""
    path = folder / "edge.ks"
    path.write_text(f"#version=RHEL9\n{lines}\n{'' if '%packages' in lines else PACKAGES}")
    findings = lint(path, "", [], load_board("rap-4"), None).findings
    assert all(finding.problem and finding.repair for finding in findings)
    return {finding.rule for finding in findings}


@pytest.mark.parametrize("edge", EDGES, ids=[f"{edge['rule']}-{n}" for n, edge in enumerate(EDGES)])
def test_a_rule_reports_exactly_the_wrong_boundary_values(edge: dict[str, Any], tmp_path: Path) -> None:
    found = {
        value: reporting(edge["lines"].replace("{}", value), tmp_path)
        for value in (*edge["wrong"], *edge["right"])
    }
    assert [value for value, rules in found.items() if edge["rule"] in rules] == edge["wrong"]
    assert not [value for value, rules in found.items() if "syntax" in rules]
