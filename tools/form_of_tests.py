"""Checks that tests use public interfaces, never sleep in real time, and do not import each other.

A test that reaches into private attributes breaks when only the inside of a class changes, and hides that an
interface is missing. A real sleep is too long on a fast machine and too short on a busy one: tests wait for a
condition with a bound (`tests.support.eventually`) or run in virtual time (`sim.net.loop`). Code shared by
tests is in `tests.support`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from tools.names import statements

PRIVATE: Final = re.compile(r"_(?!_)\w+|__\w*[^_\W]_?")
NAMED_ATTRIBUTE: Final = frozenset({"getattr", "setattr", "delattr", "object"})
"""Functions, also of `monkeypatch` and `mock.patch`, whose second argument is the name of an attribute."""
SIMULATED_LOOP: Final = "sim.net.loop"
POLLING: Final = Path("tests/support/eventually.py")

_PLANTS: Final = "plants a bug inside a class, or switches off one of its caches"
EXCEPTIONS: Final[dict[tuple[str, str], str]] = {
    ("tests/datacenter/access/planted/holes.py", "private"): _PLANTS,
    (
        "tests/datacenter/access/planted/test_planted_holes.py",
        "import",
    ): "the holes are data, beside their only test",
    ("tests/sim/engine/test_endings.py", "private"): "shortens a loop of the clock that takes a minute",
    ("tests/sim/planted/bugs.py", "private"): _PLANTS,
    ("tests/sim/planted/bugs.py", "sleep"): "runs in the simulated world, which its tests choose",
    ("tests/sim/planted/test_planted_bugs.py", "import"): "the planted bugs are data, beside their only test",
    ("tests/support/datacenter/store/kills.py", "sleep"): "kills real processes at random moments",
    ("tests/sim/verdict/test_delivery_is_expected.py", "private"): _PLANTS,
    ("tests/sim/worlds/test_firewalled_lab.py", "private"): _PLANTS,
}
"""(file, kind) to reason; kinds are "private", "sleep" and "import"."""


def check_tests(paths: list[Path]) -> Iterator[str]:
    """Check the Python files below tests/ among `paths`, and that each exception is still needed."""
    unused = set(EXCEPTIONS)
    for path in paths:
        if path.parts[0] == "tests" and path.suffix == ".py":
            for kind, line, message in findings(path, path.read_text("utf-8")):
                if (str(path), kind) in EXCEPTIONS:
                    unused.discard((str(path), kind))
                else:
                    yield f"{path}:{line}: {message}"
    for file, kind in sorted(unused):
        yield f"{file}: no {kind} finding; remove its exception from tools/form_of_tests.py"


def findings(path: Path, text: str) -> Iterator[tuple[str, int, str]]:
    """Yield (kind, line, message) for one file."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt | ast.expr):
            continue
        for name in private_names(node):
            yield "private", node.lineno, f"{name} is private; test through the public interface"
        if isinstance(node, ast.ImportFrom) and any(each.name == "sleep" for each in node.names):
            yield (
                "sleep",
                node.lineno,
                f"imports sleep; call it as {node.module}.sleep, so that it is checked",
            )
        for module in imported_modules(node):
            if module.split(".")[0] == "tests" and not module.startswith("tests.support"):
                yield "import", node.lineno, f"imports {module}; move what tests share to tests.support"
    if path != POLLING:
        for line, call in real_sleeps(tree):
            yield "sleep", line, f"{call} sleeps in real time; wait for a condition or use the simulated loop"


def private_names(node: ast.AST) -> Iterator[str]:
    """Yield the private names that a node imports or writes as text; the linter finds attributes (SLF001)."""
    match node:
        case (
            ast.Attribute(value=ast.Name(id="self" | "cls"))
            | ast.Attribute(value=ast.Call(func=ast.Name(id="super")))
        ):
            pass
        case ast.ImportFrom(names=names):
            yield from (each.name for each in names if PRIVATE.fullmatch(each.name))
        case ast.Call(func=func, args=[ast.Constant(value=str(dotted)), *_]) if last_name(func) == "setattr":
            yield from (name for name in dotted.split(".") if PRIVATE.fullmatch(name))
        case ast.Call(func=func, args=[_, ast.Constant(value=str(name)), *_]):
            if last_name(func) in NAMED_ATTRIBUTE and PRIVATE.fullmatch(name):
                yield name


def imported_modules(node: ast.AST) -> Iterator[str]:
    """Yield the modules that a node imports."""
    match node:
        case ast.Import(names=names):
            yield from (each.name for each in names)
        case ast.ImportFrom(module=module, level=level):
            yield "tests.(relative)" if level else module or ""


def real_sleeps(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, call) of the sleeps on a real event loop, or of a thread.

    `asyncio.sleep(0)` only lets other tasks run. Other asyncio sleeps are virtual in modules that use the simulated
    loop, except in functions that call `asyncio.run`.
    """
    virtual = uses_simulated_loop(tree)
    for top in tree.body:
        calls = [(ast.unparse(call.func), call) for call in ast.walk(top) if isinstance(call, ast.Call)]
        is_real = not virtual or "asyncio.run" in dict(calls)
        for name, call in calls:
            is_turn = bool(call.args) and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0
            if name == "time.sleep" or (name == "asyncio.sleep" and not is_turn and is_real):
                yield call.lineno, ast.unparse(call)


def uses_simulated_loop(tree: ast.Module) -> bool:
    """Return whether a module imports the simulated loop, or modules of tests.support that do."""
    to_do, seen = [all_imports(tree)], set[str]()
    while to_do:
        for module in to_do.pop():
            path = Path(module.replace(".", "/") + ".py")
            if module == SIMULATED_LOOP:
                return True
            if module.startswith("tests.support.") and module not in seen and path.exists():
                seen.add(module)
                to_do.append(imports_of_file(path, path.stat().st_mtime_ns))
    return False


def all_imports(tree: ast.Module) -> list[str]:
    """Return the modules that a module imports anywhere."""
    return [module for node in statements(tree) for module in imported_modules(node)]


@cache
def imports_of_file(path: Path, _mtime_ns: int) -> list[str]:
    """Return the modules that a file imports. Most tests import the same ones."""
    return all_imports(ast.parse(path.read_text("utf-8")))


def last_name(func: ast.expr) -> str:
    """Return the last part of a called function's name."""
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
