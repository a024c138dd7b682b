"""How a run is shown: `write_report` for files, `sim.report.terminal` for a person who is waiting.

All of it is rendered from one `sim.verdict.result.Result`, and computes nothing that the result does not say.
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
    """Write `report.html`, `junit.xml` and `result.json` (with its series) into `folder`, made if need be.

    Files of those names are replaced. Raises: OSError.
    """
    from sim.report import junit, page  # here, so that a run which reports nothing loads no plotting library

    folder.mkdir(parents=True, exist_ok=True)
    paths = ReportPaths(folder / "report.html", folder / "junit.xml", folder / "result.json")
    paths.page.write_text(page.render(result), encoding="utf-8")
    paths.junit.write_text(junit.render(result), encoding="utf-8")
    paths.document.write_text(to_json(result, with_series=True), encoding="utf-8")
    return paths
