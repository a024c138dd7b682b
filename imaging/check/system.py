"""Checking the files of a system against a profile, by default that of the STIG."""

from __future__ import annotations

from pathlib import Path

from imaging.check.content import default_content, read_benchmark
from imaging.check.openscap import PROFILE, ScanReports, scan
from imaging.check.reasons import load_reasons
from imaging.check.types import Evaluation


def check_tree(
    tree: Path,
    *,
    is_image: bool,
    content: Path | None = None,
    profile: str = "",
    exceptions: Path | None = None,
    mock_repo: bool = False,
    reports: ScanReports | None = None,
) -> Evaluation:
    """Scan the files of a system, and evaluate the results with the written reasons.

    `is_image` states whether `tree` has the content of an image; `exceptions` replaces the box's exceptions.toml.

    Raises: InvalidCheckInput, PrerequisiteMissing.
    """
    content = content or default_content(tree)
    benchmark = read_benchmark(content)
    chosen = benchmark.profile(profile or PROFILE, content)
    reasons = load_reasons(benchmark, chosen, exceptions, image=is_image, mock_repo=mock_repo)
    return reasons.evaluate(scan(tree, content, reports or ScanReports(None, None), chosen))
