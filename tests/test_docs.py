"""The documents are true: their commands run and print what they say, and their tables are the code's.

A fenced block marked `console` is run: each line that begins with `$` is a command, what stands below it must be
its output (`…` stands for anything), and an exit status other than 0 is said in a comment: `# exit status 2`. A block
marked with a language and a file's name is that file.
"""

from __future__ import annotations

import argparse
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
from tests.support.imaging.first_report import MOCK_REPO
from tests.support.imaging.small_system import need_tools
from tests.support.paths import ROOT
from tools import audit_reference, lab_reference, package_diagram

COMMAND_SECONDS_MAX = 580
"""A guard against hanging, and no measure: building an image takes one or two minutes."""
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
BLOCK = re.compile(r"^```(?:console|\w+ (?P<file>[\w.]+))\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
STEP = re.compile(r"^\$ (?P<command>.*)\n(?P<output>(?:^(?!\$ ).*\n)*)", re.MULTILINE)


TO_A_FLASHED_DISK = ("kickstart", "build-an-image", "flash")
"""How-tos of which each uses the files of those before."""


def console_pages() -> list[Path]:
    """The pages with commands that can be followed alone."""
    pages = [page for page in PAGES if page.stem not in TO_A_FLASHED_DISK[1:]]
    return [page for page in pages if BLOCK.search(page.read_text("utf-8"))]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Path]:
    """A folder with the labs and the commands in it, and nothing else.

    What a page leaves running ends with it: the process of each `.pid` file.
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
def test_the_commands_of_a_page_print_what_it_shows(page: Path, desk: Path) -> None:
    follow(page, desk)


@pytest.mark.skipif(os.geteuid() != 0, reason="building and flashing images need root")
def test_the_how_tos_lead_from_nothing_to_a_flashed_disk(desk: Path) -> None:
    need_tools()
    (desk / "build").mkdir()
    (desk / "build/mock-repo").symlink_to(MOCK_REPO)  # what apt fetched is kept between runs
    try:
        for name in TO_A_FLASHED_DISK:
            follow(ROOT / f"docs/how-to/{name}.md", desk)
    finally:
        if (desk / "sdb").is_symlink():
            subprocess.run(
                ["losetup", "--detach", (desk / "sdb").resolve()], check=False, capture_output=True
            )


def follow(page: Path, desk: Path) -> None:
    """Make the files of a page and run its commands, in order."""
    for block in BLOCK.finditer(page.read_text("utf-8")):
        if block["file"]:
            (desk / block["file"]).write_text(block["text"])
            continue
        for step in STEP.finditer(block["text"]):
            check(step["command"], step["output"].strip(), desk)


def check(command: str, expected: str, desk: Path) -> None:
    path = os.pathsep.join((str(desk / ".bin"), os.environ["PATH"]))
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    if not entry_points(group="pytest11", name="rap-lab"):  # a checkout that is not installed
        environment["PYTEST_PLUGINS"] = "sim.pytest_plugin"
    ran = subprocess.run(
        command,
        shell=True,
        check=False,
        timeout=COMMAND_SECONDS_MAX,
        cwd=desk,
        env=environment,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    status = re.search(r"# exit status (\d+)", command)
    assert ran.returncode == int(status[1] if status else 0), f"$ {command}\n{ran.stdout}"
    # a console is padded with spaces where it is not a terminal
    printed = "\n".join(line.rstrip() for line in ran.stdout.splitlines()).strip()
    pattern = ".*".join(map(re.escape, expected.split("…")))
    assert not expected or re.fullmatch(pattern, printed, re.DOTALL), f"$ {command}\n{printed}"


def test_the_reference_of_lab_files_matches_the_code() -> None:
    page = (ROOT / lab_reference.PAGE).read_text("utf-8")
    assert lab_reference.render(page) == page, "run `make golden`"


def test_the_reference_of_audit_events_is_the_codes() -> None:
    page = (ROOT / audit_reference.PAGE).read_text("utf-8")
    assert audit_reference.render() == page, "run `make golden`"


def test_the_package_diagram_is_that_of_the_imports() -> None:
    page = (ROOT / package_diagram.PAGE).read_text("utf-8")
    assert package_diagram.render(page, package_diagram.imports_between_packages(ROOT)) == page, (
        "run `make golden`"
    )


def words(parser: argparse.ArgumentParser, so_far: str = "") -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield f"{so_far}{name}"
                yield from words(child, f"{so_far}{name} ")
        elif action.option_strings != ["-h", "--help"]:
            yield from action.option_strings


def test_the_reference_of_the_command_line_is_complete() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text("utf-8")
    missing = {word for word in words(make_parser()) if word not in page}
    assert not missing
