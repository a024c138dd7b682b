"""The documents are correct: their commands print what the page shows, and their references match the code.

A fenced block marked `console` is run: each line that begins with `$` is a command, and the lines below it must be
its output (`…` stands for anything). A comment states an exit status other than 0: `# exit status 2`. A block marked
with a language and a file name is that file.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from rap.__main__ import make_parser
from rap.parser import Parser
from tests.support.imaging.small_system import need_tools
from tests.support.imaging.starts.first_report import MOCK_REPO
from tests.support.paths import ROOT
from tests.support.runner.child_pytest import child_environment
from tools import audit_reference, lab_reference, package_diagram, session_reference

COMMAND_SECONDS_MAX = 580
"""A guard against commands that hang, not a performance limit: building an image takes one or two minutes."""
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
BLOCK = re.compile(r"^```(?:console|\w+ (?P<file>[\w.]+))\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
STEP = re.compile(r"^\$ (?P<command>.*)\n(?P<output>(?:^(?!\$ ).*\n)*)", re.MULTILINE)


TO_A_FLASHED_DISK = ("kickstart", "build-an-image", "flash")
"""How-tos, each of which uses the files of the previous ones."""


def console_pages() -> list[Path]:
    """Return the pages with commands that do not depend on other pages."""
    pages = [page for page in PAGES if page.stem not in TO_A_FLASHED_DISK[1:]]
    return [page for page in pages if BLOCK.search(page.read_text("utf-8"))]


@pytest.fixture
def work_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with the labs and the commands in it, and nothing else.

    The processes of its `.pid` files are killed at the end of the test.
    """
    (tmp_path / "labs").symlink_to(ROOT / "labs")
    for command, module in (("rap", "-m rap"), ("pytest", "-m pytest"), ("python", "")):
        path = tmp_path / ".bin" / command
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        path.chmod(0o755)
    yield tmp_path
    for file in tmp_path.glob("*.pid"):
        with suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("page", console_pages(), ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.slow("runs all commands of the documents, such as a lab of a day")
def test_the_commands_of_a_page_print_what_it_shows(page: Path, work_folder: Path) -> None:
    follow(page, work_folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="building and flashing images need root")
@pytest.mark.slow("an image is built, checked and flashed")
def test_the_how_tos_in_sequence_produce_a_flashed_disk(work_folder: Path) -> None:
    need_tools()
    MOCK_REPO.mkdir(parents=True, exist_ok=True)
    (work_folder / "build").mkdir()
    # packages that apt has fetched are kept between runs
    (work_folder / "build/mock-repo").symlink_to(MOCK_REPO)
    try:
        for name in TO_A_FLASHED_DISK:
            follow(ROOT / f"docs/how-to/{name}.md", work_folder)
    finally:
        if (work_folder / "sdb").is_symlink():
            subprocess.run(
                ["losetup", "--detach", (work_folder / "sdb").resolve()], check=False, capture_output=True
            )


def follow(page: Path, work_folder: Path) -> None:
    """Write the files of a page and run its commands, in order."""
    for block in BLOCK.finditer(page.read_text("utf-8")):
        if block["file"]:
            (work_folder / block["file"]).write_text(block["text"])
            continue
        for step in STEP.finditer(block["text"]):
            check(step["command"], step["output"].strip(), work_folder)


def check(command: str, expected: str, work_folder: Path) -> None:
    path = os.pathsep.join((str(work_folder / ".bin"), os.environ["PATH"]))
    environment = child_environment(PATH=path, PYTHONPATH=str(ROOT), COLUMNS="100")
    if not entry_points(group="pytest11", name="rap-lab"):  # a checkout that is not installed
        environment["PYTEST_PLUGINS"] = "sim.pytest_plugin"
    result = subprocess.run(
        command,
        shell=True,
        check=False,
        timeout=COMMAND_SECONDS_MAX,
        cwd=work_folder,
        env=environment,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    status = re.search(r"# exit status (\d+)", command)
    assert result.returncode == int(status[1] if status else 0), f"$ {command}\n{result.stdout}"
    # lines are padded with spaces if the output is not a terminal
    printed = "\n".join(line.rstrip() for line in result.stdout.splitlines()).strip()
    pattern = ".*".join(map(re.escape, expected.split("…")))
    assert not expected or re.fullmatch(pattern, printed, re.DOTALL), f"$ {command}\n{printed}"


def test_the_reference_of_lab_files_matches_the_code() -> None:
    page = (ROOT / lab_reference.PAGE).read_text("utf-8")
    assert lab_reference.render(page) == page, "run `make golden`"


def test_the_reference_of_audit_events_matches_the_code() -> None:
    page = (ROOT / audit_reference.PAGE).read_text("utf-8")
    assert audit_reference.render() == page, "run `make golden`"


def test_the_reference_of_sessions_matches_the_code() -> None:
    page = (ROOT / session_reference.PAGE).read_text("utf-8")
    assert session_reference.render() == page, "run `make golden`"


def test_the_package_diagram_matches_the_imports() -> None:
    page = (ROOT / package_diagram.PAGE).read_text("utf-8")
    assert package_diagram.render(page, package_diagram.imports_between_packages(ROOT)) == page, (
        "run `make golden`"
    )


def commands_and_options(parser: Parser, prefix: str = "") -> Iterator[str]:
    """Yield the commands below a parser, and the options that its help lists."""
    for options in re.findall(r"^  (-.*?)(?:  |$)", parser.format_help(), re.MULTILINE):
        yield from set(re.findall(r"(?<!\S)--?[a-z-]+", options)) - {"-h", "--help"}
    for name, child in parser.commands.items():
        yield f"{prefix}{name}"
        yield from commands_and_options(child, f"{prefix}{name} ")


def test_the_reference_of_the_command_line_is_complete() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text("utf-8")
    missing = {name for name in commands_and_options(make_parser()) if name not in page}
    assert not missing
