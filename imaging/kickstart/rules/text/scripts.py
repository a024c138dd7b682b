"""Scripts: the syntax of their language, their interpreter, and the characters in them."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import PurePosixPath
from typing import Final

from imaging.kickstart.document import SCRIPTS, Section, Spot
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule

SHELLS: Final = ("sh", "bash", "dash", "ksh")
_LINE: Final = re.compile(r"^\S*?: line (\d+): (.*)$")
_OPEN: Final = re.compile(r"here-document at line (\d+) delimited by end-of-file \(wanted `(.+)'\)")
_TYPOGRAPHIC: Final = re.compile("[\u00a0\u2018\u2019\u201c\u201d\u2013\u2014\u200b]")
"""No-break space, typographic quotation marks, dashes and the zero-width space."""


@risk
def interpreter_form(case: Case) -> Faults:
    """The interpreter must be an absolute path.

    Source: RHEL's kickstart reference, `%post --interpreter`.
    """
    for section in case.ks.of("%pre", "%pre-install", "%post", "%onerror", "%traceback"):
        path = section.script.interp if section.script else ""
        if path and not path.startswith("/"):
            yield LintFault(
                section.spot,
                f"--interpreter={path} is not an absolute path",
                f"write --interpreter=/usr/bin/{path}",
            )


@rule
def script_syntax(case: Case) -> Faults:
    """A script that its interpreter cannot parse ends at the first wrong line.

    Source: bash(1), -n; the grammar of Python.
    """
    for section in case.ks.of(*SCRIPTS):
        found = _shell(section) if language(section) in SHELLS else _python(section)
        for spot, problem in found:
            if not _OPEN.search(problem):
                yield LintFault(spot, f"{section.name} does not parse: {problem}", "correct the script")


@rule
def here_document_open(case: Case) -> Faults:
    """A here-document without its last line takes the rest of the script for its text.

    Source: bash(1), Here Documents.
    """
    for section in case.ks.of(*SCRIPTS):
        for _spot, problem in _shell(section) if language(section) in SHELLS else ():
            if match := _OPEN.search(problem):
                yield LintFault(
                    Spot(section.spot.line + int(match[1]), section.spot.file),
                    f"the here-document has no line {match[2]!r}, and the rest of the script is its text",
                    f"end it with a line that says {match[2]} and nothing else",
                )


@rule
def script_language(case: Case) -> Faults:
    """A script is run by --interpreter, or else by /bin/sh; its first line is a comment.

    Source: RHEL's kickstart reference, `%post --interpreter`.
    """
    for section in case.ks.of(*SCRIPTS):
        first = section.body[0] if section.body else ""
        named = (
            PurePosixPath(first[2:].split()[-1]).name if first.startswith("#!") and first[2:].split() else ""
        )
        if named and language(section) in SHELLS and re.match(r"python|perl|ruby|lua|node", named):
            yield LintFault(
                section.spot,
                f"the script is for {named}, and {section.script.interp if section.script else '/bin/sh'} runs it",
                f"write {section.name} --interpreter={first[2:].strip()}",
            )


@rule
def python_without_version(case: Case) -> Faults:
    """RHEL 9 and 10 have no /usr/bin/python.

    Source: "Installing and using dynamic programming languages" (RHEL 9): unversioned commands.
    """
    for section in case.ks.of(*SCRIPTS):
        path = section.script.interp if section.script else ""
        if PurePosixPath(path or "/").name in ("python", "python2"):
            yield LintFault(
                section.spot,
                f"{case.ks.version} has no {path}",
                f"write {section.name} --interpreter=/usr/bin/python3",
            )


@rule
def windows_line_endings(case: Case) -> Faults:
    """A carriage return at the end of a line belongs to its last word.

    Source: bash(1): a carriage return is not a blank; pykickstart passes the lines of a section on as they are.
    """
    for spot in case.ks.carriage_returns:
        yield LintFault(
            spot, "the lines end in CR LF, as in Windows", "convert the file: dos2unix, or sed -i 's/\\r$//'"
        )


@rule
def typographic_characters(case: Case) -> Faults:
    """A word processor's quotation marks, dashes and spaces are parts of words for Anaconda.

    Source: Python's shlex, which splits the lines at ASCII blanks and quotes.
    """
    for command in case.ks.commands:
        if match := _TYPOGRAPHIC.search(" ".join((command.name, *command.words))):
            yield LintFault(
                command.spot,
                f"the line has the character U+{ord(match[0]):04X}",
                "write plain quotes, hyphens and spaces",
            )


@risk
def log_path_form(case: Case) -> Faults:
    """The log of a script is a file with an absolute path.

    Source: RHEL's kickstart reference, `%post --log`.
    """
    for section in case.ks.of(*SCRIPTS):
        path = section.script.logfile if section.script else ""
        if path and not path.startswith("/"):
            yield LintFault(
                section.spot, f"--log={path} is not an absolute path", f"write --log=/root/{path}"
            )


def language(section: Section) -> str:
    """The name of the program that runs a script."""
    path = section.script.interp if section.script else "/bin/sh"
    return PurePosixPath(str(path).split()[0]).name if str(path).strip() else "sh"


def _shell(section: Section) -> Iterator[tuple[Spot, str]]:
    for line, problem in _bash(_text(section)):
        yield Spot(section.spot.line + line, section.spot.file), problem


@cache
def _bash(text: str) -> tuple[tuple[int, str], ...]:
    """The lines of a shell script that bash cannot parse, the first for each error."""
    if not shutil.which("bash"):
        return ()
    run = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    found = [(int(match[1]), match[2]) for line in run.stderr.splitlines() if (match := _LINE.match(line))]
    shown = [
        (line, message) for line, message in found if not message.startswith("`")
    ]  # bash repeats the line itself
    return tuple((min(line, text.count("\n") + 1), message) for line, message in shown[:2])


def _python(section: Section) -> Iterator[tuple[Spot, str]]:
    if not re.fullmatch(r"(platform-)?python(3(\.\d+)?)?", language(section)):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(_text(section))
    except SyntaxError as error:
        yield Spot(section.spot.line + (error.lineno or 1), section.spot.file), str(error.msg)


def _text(section: Section) -> str:
    return "\n".join(section.body) + "\n"
