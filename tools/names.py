"""Names in documents and docstrings: each file, module, class and attribute written in backticks exists.

The check covers paths of this repository (`sim/faults/link/down.py`, `labs/*.toml`), names of Python files without a
folder, dotted names of its packages (`sim.net.loop.SimLoop`) and names of classes in CapWords, with or without an
attribute (`SimLoop.time`). In documents the text of Mermaid diagrams is checked as well; in docstrings, the names of
exceptions, which need no backticks. A path whose last part contains `your` stands for a file that the reader creates:
only its folder has to exist.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

FOREIGN: Final = frozenset(
    {
        "ArgumentError",  # SQLAlchemy
        "ConditionNeedsUpdate",  # systemd
        "IncompleteReadError",  # asyncio
        "KickstartVersionError",  # pykickstart
        "NetlinkError",  # pyroute2
        "NetworkManager",
        "Packages",  # pykickstart
        "SQLAlchemyError",
        "SSLObject",  # Python's ssl module
        "TimeoutStopSec",  # systemd
        "custom_partitioning.py",  # Anaconda
        "kickstart/addon.py",  # Anaconda
    }
)
"""Classes and files of other programs."""
BLOCK: Final = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
QUOTED: Final = re.compile(r"`([^`\n]+)`")
DRAWN: Final = re.compile(r"[\w.-]+(?:/[\w.*-]+)+/?")
PATH: Final = re.compile(r"[\w.-]+(?:/[\w.*-]+)+/?")
DOTTED: Final = re.compile(r"(\w+(?:\.\w+)+)(?:\(\))?")
CLASS: Final = re.compile(r"([A-Z][a-z0-9]+[A-Z][a-z][A-Za-z0-9]*|[A-Z]\w*[a-z]\w*\.\w+)(?:\(\))?")

EXCEPTION: Final = re.compile(r"(?<![\w.`-])[A-Z]\w*Error\b")


class NameTargets:
    """The targets of names: the files that git tracks, and the definitions in their Python code."""

    def __init__(self, root: Path, files: Sequence[str]) -> None:
        self.root = root
        self.files = frozenset(files)
        self.folders = frozenset(str(parent) for file in files for parent in Path(file).parents)
        self.file_names = frozenset(Path(file).name for file in files)
        self.packages = frozenset(
            Path(file).parts[0] for file in files if file.endswith("/__init__.py") and file.count("/") == 1
        )

    def has_path(self, path: str) -> bool:
        """Return whether a file, a folder or at least one match of a pattern exists, relative to the root."""
        path = path.rstrip("/")
        if "your" in Path(path).name:
            return str(Path(path).parent) in self.folders
        if "*" in path:
            return any(Path(file).match(path) for file in self.files)
        return path in self.files or path in self.folders

    def has_dotted(self, name: str) -> bool:
        """Return whether a module exists, or a name that a module or one of its classes defines."""
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            stem = "/".join(parts[:length])
            for file in (f"{stem}.py", f"{stem}/__init__.py"):
                if file in self.files:
                    return self._defines(file, parts[length:])
        return False

    def _defines(self, file: str, names: list[str]) -> bool:
        if not names:
            return True
        tree = ast.parse((self.root / file).read_text("utf-8"))
        for statement in tree.body:
            if names[0] in _bound(statement):
                break
        else:
            return False
        return (
            len(names) == 1 or not isinstance(statement, ast.ClassDef) or names[1] in _attributes(statement)
        )

    @cached_property
    def classes(self) -> dict[str, set[str]]:
        """Each class with the names of its attributes and methods; those of its base classes begin with "<"."""
        classes: dict[str, set[str]] = {}
        for file in self.files:
            if file.endswith(".py"):
                for node in statements(ast.parse((self.root / file).read_text("utf-8"))):
                    if isinstance(node, ast.ClassDef):
                        classes.setdefault(node.name, set()).update(
                            _attributes(node), (f"<{ast.unparse(base)}" for base in node.bases)
                        )
        return classes

    def has_class(self, name: str) -> bool:
        """Return whether a class of this name exists, with the attribute after the dot if there is one."""
        name, _, attribute = name.partition(".")
        return name in self.classes and (not attribute or self._has_attribute(name, attribute))

    def _has_attribute(self, name: str, attribute: str) -> bool:
        known = self.classes.get(name, set())
        bases = (
            known_name[1:] for known_name in known if known_name.startswith("<") and known_name != f"<{name}"
        )
        return attribute in known or any(self._has_attribute(base, attribute) for base in bases)


def unknown_names(path: Path, text: str, repository: NameTargets) -> Iterator[str]:
    """Yield a finding for each name in a document's or a module's docstrings that refers to nothing."""
    if path.suffix == ".md":
        texts = [_current(path, text)]
    elif path.suffix == ".py":
        texts = list(_docstrings(text))
    else:
        return
    for prose in texts:
        own_files = {block["info"].split()[-1] for block in BLOCK.finditer(prose) if block["info"]}
        for name in _names(prose):
            if name not in own_files and not _exists(name, repository):
                yield f"{path}: `{name}` does not exist in this repository"
        for name in EXCEPTION.findall(prose) if path.suffix == ".py" else ():
            if not (name in FOREIGN or hasattr(builtins, name) or repository.has_class(name)):
                yield f"{path}: there is no exception {name}"


def _exists(name: str, repository: NameTargets) -> bool:
    top = re.split(r"[/.]", name)[0]
    if name in FOREIGN or top in FOREIGN:
        return True
    if PATH.fullmatch(name):
        return name.partition("/")[0] not in repository.folders or repository.has_path(name)
    if re.fullmatch(r"\w+\.py", name):
        return name in repository.file_names
    if (dotted := DOTTED.fullmatch(name)) and top in repository.packages:
        return repository.has_dotted(dotted[1])
    if named := CLASS.fullmatch(name):
        return repository.has_class(named[1])
    return True


def _current(path: Path, text: str) -> str:
    # the section of a released version in the change log may name things that no longer exist
    return "".join(re.split(r"(?m)^(?=## \[)", text)[:2]) if path.name == "CHANGELOG.md" else text


def _names(prose: str) -> Iterator[str]:
    for block in BLOCK.finditer(prose):
        if block["info"] == "mermaid":
            yield from DRAWN.findall(block["body"])
    yield from QUOTED.findall(BLOCK.sub("", prose))


def _docstrings(code: str) -> Iterator[str]:
    for node in statements(ast.parse(code)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.value.value


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all statements in a syntax tree, with exception handlers and cases of `match`, but no expressions."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        below = getattr(node, name, None)
        for each in below if isinstance(below, list) else ():
            yield each
            yield from statements(each)


def _bound(statement: ast.stmt) -> set[str]:
    """Return the names that a statement at the top of a module or class binds."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _attributes(cls: ast.ClassDef) -> set[str]:
    names = {name for statement in cls.body for name in _bound(statement)}
    for node in ast.walk(cls):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names
