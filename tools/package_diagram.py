"""Writes the package diagram of ARCHITECTURE.md from the imports of the code; `make golden` runs it.

An arrow means that a package imports another. An arrow that follows from two others is left out.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

PAGE: Final = Path("ARCHITECTURE.md")
BEGIN: Final = "<!-- written by tools/package_diagram.py -->\n"
END: Final = "<!-- end -->\n"
PACKAGES: Final = {
    "rap": "the command line",
    "sim": "simulator: labs, faults, worlds, verdict",
    "agents.instrument": "program on an instrument",
    "agents.box": "program on the box",
    "agents.provision": "first start of a box",
    "agents.spool": "durable log on the disk",
    "datacenter": "store, evaluation, access, pages",
    "imaging": "kickstarts, images, flashing",
    "trust": "evidence about a box",
    "netfw": "firewall",
    "wire": "messages, HTTP, TLS, PKI",
    "hal.linux": "hardware of Linux",
    "hal.emul": "emulated hardware",
    "hal": "hardware contracts",
    "settings": "types and TOML files",
}
"""The packages in the diagram, with a description of each. A module belongs to the longest name that contains it."""

Imports = dict[str, set[str]]


class CyclicImports(Exception):
    """Two packages import each other, directly or through others; the message names one of them."""


def render(page: str, imports: Mapping[str, Iterable[str]]) -> str:
    """Return the page with its diagram regenerated from the imports of each package. Raises: CyclicImports."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    nodes = [
        f'    {_node(name)}["<b>{name}</b><br>{description}"]\n' for name, description in PACKAGES.items()
    ]
    arrows = [f"    {_node(a)} --> {_node(b)}\n" for a in PACKAGES for b in _direct(a, imports)]
    diagram = "".join(("```mermaid\n", "flowchart TD\n", *nodes, *arrows, "```\n"))
    return before + BEGIN + diagram + END + after


def imports_between_packages(root: Path) -> Imports:
    """Return the members of PACKAGES that each of them imports, from the Python files that git tracks."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=root, capture_output=True, text=True, check=True)
    imports: Imports = {name: set() for name in PACKAGES}
    for file in listed.stdout.splitlines():
        importer = _package(file.removesuffix(".py").replace("/", "."))
        if importer and (root / file).exists():
            imported = {_package(name) for name in _imported((root / file).read_text("utf-8"))}
            imports[importer] |= {name for name in imported if name and name != importer}
    return imports


def _imported(code: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _package(module: str) -> str | None:
    containing = [name for name in PACKAGES if f"{module}.".startswith(f"{name}.")]
    return max(containing, key=len, default=None)


def _direct(package: str, imports: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the imports of a package that do not follow from its other imports, in the order of PACKAGES."""
    further = {name for other in imports[package] for name in _reached(other, imports)}
    if package in further:
        raise CyclicImports(f"{package} imports itself through {', '.join(sorted(imports[package]))}")
    return [name for name in PACKAGES if name in imports[package] and name not in further]


def _reached(package: str, imports: Mapping[str, Iterable[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = list(imports[package])
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += imports[name]
    return reached


def _node(name: str) -> str:
    return name.replace(".", "_")


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text("utf-8"), imports_between_packages(Path.cwd())), "utf-8")
