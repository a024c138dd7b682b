"""Mutation testing: of a small source tree, and the list of mutated modules in `tests/mutants.toml`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from settings.toml import load
from tests.support.runner.child_pytest import child_environment
from tools.mutants.modules import Coverage, Module, Modules
from tools.mutants.source import mutants_of
from tools.mutants.trial import Chosen, ProcessLimits, forked, run_tests

ROOT = Path(__file__).parents[1]

CODE = '''"""A docstring."""
from typing import Final

ROOM_MAX: Final = 5
OPEN = True


class Room(tuple, metaclass=type):
    """Another."""

    @property
    def full(self) -> "bool":
        assert ROOM_MAX > 1, "a bug"
        return len(self) >= ROOM_MAX


def keep(disk, data):
    disk.write("key", data)
    disk.flush()
    raise ValueError("no room left")
'''

ADD = """def add_all(numbers):
    total = 0
    for number in numbers:
        total += number
    return total
"""

LIST = """
score_min = 0.9
sample = 50
seed = 1
[[module]]
name = "sums"
sources = ["sums.py"]
tests = ["test_sums.py"]
"""


def changes(code: str) -> set[tuple[str, str, str]]:
    return {(m.scope, *m.lines) for m in mutants_of("room.py", code)}


def test_decorated_functions_and_code_outside_functions_are_mutated() -> None:
    mutated = changes(CODE)
    assert ("Room.full", "return len(self) >= ROOM_MAX", "return len(self) > ROOM_MAX") in mutated
    assert ("", "OPEN = True", "OPEN = False") in mutated


def test_a_call_that_is_a_statement_is_removed() -> None:
    assert ("keep", "disk.flush()", "None") in changes(CODE)


def test_a_key_is_mutated_and_a_message_is_not() -> None:
    becomes = {after for _, _, after in changes(CODE)}
    assert 'disk.write("XXkeyXX", data)' in becomes
    assert not any("XXno room" in after for after in becomes)


@pytest.mark.parametrize("declaration", ["ROOM_MAX: Final", "assert", "class Room", '"""', "import"])
def test_declarations_are_not_mutated(declaration: str) -> None:
    assert not [was for _, was, _ in changes(CODE) if was.startswith(declaration)]


def test_the_code_of_a_mutant_is_the_file_with_one_change() -> None:
    for mutant in mutants_of("room.py", CODE):
        lines = zip(CODE.splitlines(), mutant.code.splitlines(), strict=True)
        changed = [(was.strip(), becomes.strip()) for was, becomes in lines if was != becomes]
        assert changed == [mutant.lines]
        assert mutant.code != CODE


def run(folder: Path, test: str, extra: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a tree of one source file and one test."""
    (folder / "sums.py").write_text(ADD, "utf-8")
    (folder / "test_sums.py").write_text(f"from sums import add_all\n\n\n{test}\n", "utf-8")
    (folder / "tests").mkdir()
    (folder / "hal").mkdir()
    (folder / "tests/mutants.toml").write_text(LIST + extra, "utf-8")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return subprocess.run(
        [sys.executable, "-m", "tools.mutants"],
        cwd=folder,
        env=child_environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_good_test_kills_every_mutant(tmp_path: Path) -> None:
    result = run(tmp_path, "def test_sum():\n    assert add_all([2, 3]) == 5")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "100.0%" in result.stdout
    assert not (tmp_path / "mutant-output.txt").exists()


def test_mutants_that_survive_are_printed_and_fail_the_run(tmp_path: Path) -> None:
    result = run(tmp_path, "def test_sum():\n    assert add_all([0]) == 0")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "survived: sums.py:4 add_all\n    - total += number\n    + total -= number" in result.stdout
    assert "below 90%" in result.stdout


def test_an_equivalent_mutant_does_not_count(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        "def test_sum():\n    assert add_all([2]) == 2",
        '[[equivalent]]\nfile = "sums.py"\nscope = "add_all"\nwas = "total += number"\n'
        'becomes = "total = number"\nreason = "the test gives one number"\n',
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1].split() == ["sums", "4", "3", "0", "0", "1", "100.0%"]


def test_tests_that_fail_without_a_mutant_are_an_error(tmp_path: Path) -> None:
    result = run(tmp_path, "def test_sum():\n    assert add_all([2]) == 3")
    assert result.returncode == 3
    assert "the tests of sums fail without a mutant" in result.stderr


def compute(seconds: float) -> int:
    """Use this much processor time, whatever else runs on the machine."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return 3


def compute_in_a_child(seconds: float) -> int:
    if not (child := os.fork()):
        os._exit(compute(seconds))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def busy_processor() -> Iterator[int]:
    """Yield the number of a processor that is permanently busy with work of a higher priority than `nice 19`."""
    processor = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{processor}]); print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        try:
            yield processor
        finally:
            other.kill()


def test_a_process_that_waits_forever_is_ended(tmp_path: Path) -> None:
    output = tmp_path / "output.txt"
    assert forked(lambda: int(Event().wait()), output, ProcessLimits(10, idle_seconds=0.2)) is None
    assert forked(lambda: 5, output, ProcessLimits(10)) == 5


@pytest.mark.parametrize("work", [compute, compute_in_a_child])
def test_a_process_is_ended_by_its_own_processor_time(tmp_path: Path, work: Callable[[float], int]) -> None:
    assert forked(lambda: work(5), tmp_path / "output.txt", ProcessLimits(0.3, idle_seconds=0.5)) is None


def test_a_process_that_waits_for_a_busy_processor_is_not_ended(tmp_path: Path) -> None:
    with busy_processor() as processor:

        def at_low_priority() -> int:
            os.sched_setaffinity(0, [processor])
            os.nice(19)
            return compute(0.05)

        limits = ProcessLimits(processor_seconds=1, idle_seconds=0.05)
        assert forked(at_low_priority, tmp_path / "output.txt", limits) == 3


def test_the_time_of_a_test_is_its_processor_time(tmp_path: Path) -> None:
    (tmp_path / "test_both.py").write_text(
        "import subprocess, sys, time\n"
        "def test_waits():\n    subprocess.run(['sleep', '1.5'])\n"
        "def test_computes():\n    end = time.process_time() + 0.2\n    while time.process_time() < end: pass\n"
    )
    chosen = Chosen(None)
    report = tmp_path / "seconds.json"

    def work() -> int:
        status = run_tests([str(tmp_path)], chosen)
        report.write_text(json.dumps(list(chosen.seconds.values())))
        return status

    assert forked(work, tmp_path / "output.txt", ProcessLimits(30)) == 0, (
        tmp_path / "output.txt"
    ).read_text()
    waits, computes = json.loads(report.read_text())
    assert waits < computes


def test_a_forked_process_leaves_no_descriptor_open(tmp_path: Path) -> None:
    output = tmp_path / "output.txt"
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    forked(lambda: 0, output, ProcessLimits(10))
    assert len(list(Path("/proc/self/fd").iterdir())) == open_files


def test_a_listed_mutant_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        "def test_sum():\n    assert add_all([2]) == 2",
        '[[gap]]\nfile = "sums.py"\nscope = "add_all"\nwas = "total -= 1"\nbecomes = "x"\n'
        'reason = "it does not exist"\n',
    )
    assert result.returncode == 3
    assert "no longer exist" in result.stderr
    assert "total -= 1" in result.stderr


@pytest.mark.parametrize(
    "code",
    [
        "is_open = False\n",
        "call(False, key=False)\n",
        "pairs = zip(a, b, strict=True)\n",
        '__all__ = ["Room"]\n',
    ],
)
def test_meaningless_mutants_are_not_created(code: str) -> None:
    becomes = {after for _, _, after in changes(code)}
    assert not [after for after in becomes if "strict=False" in after or "strict=None" in after]
    assert "is_open = None" not in becomes
    assert "call(None, key=False)" not in becomes and "call(False, key=None)" not in becomes
    assert not [after for after in becomes if "XX" in after]


VERDICT = ("causes", "checks", "evidence", "findings", "found/gaps", "ledger", "outcome", "precheck")
"""The modules that decide whether a lab's run passes; the others format and summarize its result."""


def python_files(*patterns: str) -> set[str]:
    """Return the modules of this project that match a glob pattern or are below a folder, without empty packages."""
    paths = {path for pattern in patterns for path in ROOT.glob(pattern)}
    files = {file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])}
    return {str(file.relative_to(ROOT)) for file in files if file.name != "__init__.py"}


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    return {module.name: module for module in load(ROOT / "tests/mutants.toml", Modules).module}


@pytest.fixture(scope="module")
def tests(modules: dict[str, Module], request: pytest.FixtureRequest) -> set[str]:
    """All tests that need no namespaces in the folders of the listed files."""
    files = {file for module in modules.values() for file in module.tests}
    collected = request.session.items
    if files <= {item.nodeid.partition("::")[0] for item in collected}:
        return {item.nodeid for item in collected if not item.get_closest_marker("kernel")}
    folders = {str(Path(file).parent) for file in files}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-m", "not kernel", *sorted(folders)],
        cwd=ROOT,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    return set(result.stdout.splitlines())


@pytest.mark.parametrize(
    ("name", "patterns"),
    [
        ("spool", ["agents/spool"]),
        ("forwarder", ["agents/box/uplink"]),
        ("ingest", ["datacenter/ingest.py", "datacenter/store/*.py"]),
        ("link", ["sim/net/link.py", "sim/net/tcp"]),
        ("flash", ["imaging/flash"]),
        ("ruleset", ["netfw/ruleset"]),
        ("checker", [f"sim/verdict/{name}.py" for name in VERDICT]),
        ("rules", ["imaging/kickstart/rules"]),
    ],
)
def test_every_source_of_critical_parts_is_mutated(
    modules: dict[str, Module], name: str, patterns: list[str]
) -> None:
    expected = python_files(*patterns)
    assert len(expected) >= len(patterns)
    assert expected <= python_files(*modules[name].sources)


def test_the_listed_sources_exist_and_belong_to_one_module(modules: dict[str, Module]) -> None:
    sources = [source for module in modules.values() for source in module.sources]
    files = [file for source in sources for file in python_files(source)]
    assert not [source for source in sources if not python_files(source)]
    assert sorted(files) == sorted(set(files))


@pytest.mark.slow("collects the tests of all mutated modules")
def test_the_listed_tests_exist(modules: dict[str, Module], tests: set[str]) -> None:
    files = {node.partition("::")[0] for node in tests}
    for module in modules.values():
        assert not set(module.tests) - files, module.name
        assert not set(module.deselect) - tests, module.name
        assert {node.partition("::")[0] for node in module.deselect} <= set(module.tests), module.name


def test_the_listed_survivors_are_in_files_that_are_mutated(modules: dict[str, Module]) -> None:
    listed = load(ROOT / "tests/mutants.toml", Modules)
    mutated = python_files(*(source for module in modules.values() for source in module.sources))
    for known in (*listed.equivalent, *listed.gap):
        assert known.file in mutated
        assert known.was.split()[0] in (ROOT / known.file).read_text("utf-8"), known.key


def test_all_tests_of_a_mutated_folder_are_tried(modules: dict[str, Module], tests: set[str]) -> None:
    files = {node.partition("::")[0] for node in tests}
    untried = set()
    for module in modules.values():
        folders = {f"tests/{source}" for source in module.sources if not source.endswith(".py")}
        untried |= {file for file in files if str(Path(file).parent) in folders} - set(module.tests)
    assert untried == {file for module in modules.values() for file in module.left_out}


def test_tables_of_numbers_and_type_aliases_are_not_mutated() -> None:
    code = 'A: TypeAlias = dict[str, int]\nB: Final = {"x": 1, "y": -2 * 3}\nP, Q = 1, 2\nC: Final = {}\n'
    code += 'D: Final = {"x": 1, "y": "z"}\n'
    assert {was for _, was, _ in changes(code)} == {"C: Final = {}", 'D: Final = {"x": 1, "y": "z"}'}


def test_all_tests_are_tried_with_a_mutant_of_a_function_whose_result_is_cached() -> None:
    covered = Coverage({"a.py": {"3": ["t.py::first"]}}, {"t.py::first": 0.01, "t.py::later": 0.02})
    for decorator, expected in (("cache", 2), ("lru_cache(1)", 2), ("staticmethod", 1)):
        mutants = mutants_of("a.py", f"@{decorator}\ndef f():\n    return 1\n")
        assert [len(covered.tests_of(mutant)) for mutant in mutants] == [expected] * len(mutants) != []


def test_tests_of_lines_that_few_tests_execute_come_first() -> None:
    all_of_them = [f"t.py::{name}" for name in ("usual", "other", "slow", "returns_1")]
    lines = {
        "1": all_of_them,
        "2": all_of_them,
        "3": all_of_them[3:],
        "4": all_of_them[:3],
        "40": all_of_them[:1],
    }
    seconds = dict(zip(all_of_them, (0.01, 0.02, 0.3, 0.02), strict=True))
    covered = Coverage({"a.py": lines}, seconds)
    (at_2,) = [
        m for m in mutants_of("a.py", "def f(a, b):\n    if not a:\n        pass\n") if m.lines[1] == "if a:"
    ]
    assert covered.tests_of(at_2) == ["t.py::" + name for name in ("returns_1", "usual", "other", "slow")]
