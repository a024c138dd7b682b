"""Tidiness: what linters do not look at, in every file that git tracks. Prints each finding; exit status 1 if any."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LINES_MAX: Final = 600
"""Past this, ask whether two ideas share a room."""
LONG_WITH_REASON: Final = {
    "LICENSE": "as its authors wrote it",
    "requirements.txt": "written by pip-compile",
}
LEFT_OVER: Final = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)))
# a package index or a place on somebody's machine is nobody else's business
ELSEWHERE: Final = re.compile(
    r"(--(extra-)?index-url|--find-links|^-i |^-f \D)|file:///|(?<![\w.:])/(home|root|Users)/\w|\.(internal|corp|local)\b(?!\()"
)
PACKAGES: Final = (
    "settings",
    "hal",
    "netfw",
    "wire",
    "agents",
    "datacenter",
    "imaging",
    "sim",
    "rap",
    "tools",
    "bench",
)
NAMESPACES: Final = re.compile(r"\b(namespaces?|own_network|box_lab)\(|\"unshare\", \"--net\"")
LINK: Final = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def main() -> int:
    """Look at everything."""
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout
    paths = [path for path in map(Path, listed.splitlines()) if path.exists()]
    findings = [finding for path in paths for finding in look(path)]
    findings += changelog(Path("CHANGELOG.md"))
    for finding in findings:
        print(finding)
    return 1 if findings else 0


def look(path: Path) -> Iterator[str]:
    """What is untidy in one file."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        return
    lines = text.splitlines()
    if len(lines) > LINES_MAX and path.name not in LONG_WITH_REASON:
        yield f"{path}: {len(lines)} lines; at most {LINES_MAX}"
    if text and not text.endswith("\n"):
        yield f"{path}:{len(lines)}: no newline at the end"
    if path.name != "LICENSE" and path != Path(__file__).relative_to(Path.cwd()):
        yield from untidy_lines(path, lines)
    if path.suffix == ".py" and path.parts[0] in PACKAGES:
        yield from module(path, text)
    is_test = path.parts[0] == "tests" and path.name.startswith("test_")
    if is_test and NAMESPACES.search(text) and "mark.kernel" not in text:
        yield f"{path}: makes network namespaces; mark those tests with pytest.mark.kernel"
    if path.suffix == ".md":
        yield from links(path, text)
    if path.parts[0] == "labs" and not tomllib.loads(text)["lab"].get("description"):
        yield f"{path}: [lab] has no description"


def untidy_lines(path: Path, lines: list[str]) -> Iterator[str]:
    """Single lines that should not be so."""
    for number, line in enumerate(lines, 1):
        if line != line.rstrip():
            yield f"{path}:{number}: space at the end of the line"
        if LEFT_OVER.search(line):
            yield f"{path}:{number}: something left over"
        if ELSEWHERE.search(line):
            yield f"{path}:{number}: names a place that is not everybody's"


def module(path: Path, text: str) -> Iterator[str]:
    """A module says what it is."""
    if text.strip() and ast.get_docstring(ast.parse(text)) is None:
        yield f"{path}:1: no docstring"


def links(path: Path, text: str) -> Iterator[str]:
    """Links to files lead to files."""
    for target in LINK.findall(text):
        if "://" not in target and not (path.parent / target).exists():
            yield f"{path}: leads to {target}, which is not there"


def changelog(path: Path) -> Iterator[str]:
    """Keep a Changelog."""
    if not path.exists() or "## [Unreleased]" not in path.read_text("utf-8"):
        yield f"{path}: no section [Unreleased]"


if __name__ == "__main__":
    sys.exit(main())
