"""Names in documents and docstrings that do not exist in the repository are reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.names import NameTargets, unknown_names

FILES = {
    "sim/__init__.py": "",
    "sim/engine.py": """
from sim import other as renamed
LIMIT: int = 3
class SimLoop:
    depth = 1
    def __init__(self) -> None:
        self.time_ns = 0
    def advance(self) -> None: ...
class FasterLoop(SimLoop):
    pass
def run() -> None: ...
""",
    "sim/other.py": "",
    "docs/page.md": "",
}


@pytest.fixture
def repository(tmp_path: Path) -> NameTargets:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return NameTargets(tmp_path, list(FILES))


@pytest.mark.parametrize(
    "name",
    [
        "sim/engine.py",
        "sim/",
        "sim/*.py",
        "sim/your_module.py",
        "engine.py",
        "sim.engine",
        "sim.engine.SimLoop",
        "sim.engine.SimLoop.advance()",
        "sim.engine.SimLoop.time_ns",
        "sim.engine.LIMIT",
        "sim.engine.renamed",
        "SimLoop",
        "SimLoop.depth",
        "FasterLoop.advance",
        "NetworkManager",
        "/etc/rap/site.toml",
        "rap lab run labs/x.toml",
        "text/html",
        "uplink.rate",
    ],
)
def test_a_name_that_exists_or_does_not_look_like_one_of_the_repository_is_accepted(
    repository: NameTargets, name: str
) -> None:
    assert list(unknown_names(Path("docs/page.md"), f"See `{name}`.", repository)) == []


UNKNOWN = [
    "sim/engines.py",
    "sim/gone/",
    "sim/*.toml",
    "sim/gone/your_module.py",
    "motor.py",
    "sim.motor",
    "sim.engine.Loop",
    "sim.engine.SimLoop.retreat",
    "SimMotor",
    "SimLoop.height",
    "FasterLoop.height",
    "SimMotor.start()",
]


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_name_is_a_finding_in_documents_and_docstrings(repository: NameTargets, name: str) -> None:
    finding = f"`{name}` does not exist in this repository"
    assert list(unknown_names(Path("a.md"), f"See `{name}`.", repository)) == [f"a.md: {finding}"]
    code = f'def f():\n    """See `{name}`."""\n    return "`sim/message.py`"\n'
    assert list(unknown_names(Path("a.py"), code, repository)) == [f"a.py: {finding}"]
    attribute = f'LIMIT = 3\n"""See `{name}`."""\n'
    assert list(unknown_names(Path("a.py"), attribute, repository)) == [f"a.py: {finding}"]


def test_an_exception_in_a_docstring_must_exist(repository: NameTargets) -> None:
    text = '"""Raises: OSError, LoopError, asyncio.QueueError; IncompleteReadError."""'
    assert list(unknown_names(Path("sim/engine.py"), text, repository)) == [
        "sim/engine.py: there is no exception LoopError"
    ]


def test_diagrams_are_read_and_other_code_blocks_are_not(repository: NameTargets) -> None:
    page = (
        '```mermaid\nflowchart\n  a["sim/gone.py"] --> b["sim/engine.py"]\n```\n\n```sh\n`sim/gone.py`\n```\n'
    )
    assert len(list(unknown_names(Path("a.md"), page, repository))) == 1


def test_a_file_that_the_page_itself_shows_may_be_named(repository: NameTargets) -> None:
    page = "`report.py` is:\n\n```python report.py\nprint()\n```\n"
    assert list(unknown_names(Path("a.md"), page, repository)) == []
    assert list(unknown_names(Path("a.md"), "`report.py` is:\n", repository)) != []


def test_released_sections_of_the_change_log_may_name_what_no_longer_exists(repository: NameTargets) -> None:
    log = "# Changelog\n\n## [Unreleased]\n\n- {0}\n\n## [1.0]\n\n- {1}\n"
    assert list(unknown_names(Path("CHANGELOG.md"), log.format("new", "`sim/gone.py`"), repository)) == []
    assert len(list(unknown_names(Path("CHANGELOG.md"), log.format("`sim/gone.py`", ""), repository))) == 1
