"""Boundary values of the linter's rules, and their findings as recorded in `tests/fixtures/findings`.

    python -m tests.support.imaging.edges

regenerates the recorded findings. Review the difference before committing it: each line is a message or a severity
that a user of the linter sees.
"""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path
from typing import Any, Final

from imaging.kickstart.lint import LintFinding, lint
from settings.board import load_board
from tests.support.paths import FIXTURES

FOLDER: Final = FIXTURES / "findings"
EDGES: Final[dict[str, list[dict[str, Any]]]] = {
    path.stem: tomllib.loads(path.read_text("utf-8"))["edge"]
    for path in sorted((FIXTURES / "edges").glob("*.toml"))
}
"""By file: the `rule`, its kickstart `lines` with `{}` for the value, and the `wrong` and `right` values."""
PACKAGES: Final = "%packages\n@core\n%end\n"


def findings(edge: dict[str, Any], value: str, folder: Path) -> list[LintFinding]:
    """Return the findings of all rules for the edge's lines with one value."""
    lines = edge["lines"].replace("{}", value)
    path = folder / "edge.ks"
    path.write_text(f"#version=RHEL9\n{lines}\n{'' if '%packages' in lines else PACKAGES}")
    return lint(path, edge.get("release", ""), [], load_board("rap-4"), edge.get("disk_bytes")).findings


def recorded(stem: str) -> list[list[str]]:
    """Return the recorded findings of a file: the lines of each edge."""
    blocks = (FOLDER / f"{stem}.txt").read_text("utf-8").split("\n\n")
    return [block.splitlines() for block in blocks]


def shown(edge: dict[str, Any], findings_by_value: dict[str, list[LintFinding]]) -> list[str]:
    """Return the lines to record for one edge: its rule, then the rule's findings for each wrong value."""
    return [f"== {edge['rule']}"] + [
        f"{value!r}: {each.line} {each.severity}: {each.problem}; {each.repair}"
        for value in edge["wrong"]
        for each in findings_by_value[value]
        if each.rule == edge["rule"]
    ]


def main() -> None:
    """Write the recorded findings of all edges."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        for stem, edges in EDGES.items():
            blocks = [
                "\n".join(shown(edge, {value: findings(edge, value, Path(name)) for value in edge["wrong"]}))
                for edge in edges
            ]
            (FOLDER / f"{stem}.txt").write_text("\n\n".join(blocks) + "\n", "utf-8")


if __name__ == "__main__":
    main()
