"""Reports about a run: `write_report` writes files, `sim.report.terminal` prints to the terminal.

All reports are rendered from one `sim.verdict.result.Result`, and contain nothing that is not in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sim.verdict.result import Result, to_json


class ReportPaths(NamedTuple):
    """The files of one report."""

    page: Path
    junit: Path
    document: Path


def write_report(result: Result, folder: Path) -> ReportPaths:
    """Write `report.html`, `junit.xml` and `result.json` (with its series) into `folder`, which is created if
    missing.

    Existing files of those names are replaced. Raises: OSError.
    """
    from sim.report import (  # imported here, so that a run without a report loads no plotting library
        junit,
        page,
    )

    folder.mkdir(parents=True, exist_ok=True)
    paths = ReportPaths(folder / "report.html", folder / "junit.xml", folder / "result.json")
    paths.page.write_text(page.render(result), encoding="utf-8")
    paths.junit.write_text(junit.render(result), encoding="utf-8")
    paths.document.write_text(to_json(result, with_series=True), encoding="utf-8")
    return paths
