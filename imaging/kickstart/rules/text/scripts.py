"""Rules about scripts: their syntax, their interpreter, and the characters in them."""

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

from imaging.kickstart.document import SCRIPTS, Section, SourceLocation
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
    for section in case.ks.sections_named("%pre", "%pre-install", "%post", "%onerror", "%traceback"):
        path = section.script.interp if section.script else ""
        if path and not path.startswith("/"):
            yield LintFault(
                section.location,
                f"--interpreter={path} is not an absolute path",
                f"write --interpreter=/usr/bin/{path}",
            )


@rule
def script_syntax(case: Case) -> Faults:
    """A script that its interpreter cannot parse stops at the first line with an error.

    Source: bash(1), -n; the grammar of Python.
    """
    for section in case.ks.sections_named(*SCRIPTS):
        errors = _shell(section) if language(section) in SHELLS else _python(section)
        for location, problem in errors:
            if not _OPEN.search(problem):
                yield LintFault(location, f"{section.name} does not parse: {problem}", "correct the script")


@rule
def here_document_open(case: Case) -> Faults:
    """A here-document without its delimiter contains the rest of the script.

    Source: bash(1), Here Documents.
    """
    for section in case.ks.sections_named(*SCRIPTS):
        for _location, problem in _shell(section) if language(section) in SHELLS else ():
            if match := _OPEN.search(problem):
                yield LintFault(
                    SourceLocation(section.location.line + int(match[1]), section.location.file),
                    f"the here-document has no line {match[2]!r}, so that the rest of the script is its text",
                    f"end it with a line that contains only {match[2]}",
                )


@rule
def script_language(case: Case) -> Faults:
    """A script is run by --interpreter, or by /bin/sh; a first line with #! has no effect.

    Source: RHEL's kickstart reference, `%post --interpreter`.
    """
    for section in case.ks.sections_named(*SCRIPTS):
        first = section.body[0] if section.body else ""
        named = (
            PurePosixPath(first[2:].split()[-1]).name if first.startswith("#!") and first[2:].split() else ""
        )
        if named and language(section) in SHELLS and re.match(r"python|perl|ruby|lua|node", named):
            yield LintFault(
                section.location,
                f"the script is for {named}, and {section.script.interp if section.script else '/bin/sh'} runs it",
                f"write {section.name} --interpreter={first[2:].strip()}",
            )


@rule
def python_without_version(case: Case) -> Faults:
    """RHEL 9 and 10 have no /usr/bin/python.

    Source: "Installing and using dynamic programming languages" (RHEL 9): unversioned commands.
    """
    for section in case.ks.sections_named(*SCRIPTS):
        path = section.script.interp if section.script else ""
        if PurePosixPath(path or "/").name in ("python", "python2"):
            yield LintFault(
                section.location,
                f"{case.ks.version} has no {path}",
                f"write {section.name} --interpreter=/usr/bin/python3",
            )


@rule
def windows_line_endings(case: Case) -> Faults:
    """A carriage return at the end of a line is read as a part of its last word.

    Source: bash(1): a carriage return is not a blank; pykickstart passes the lines of a section on as they are.
    """
    for location in case.ks.carriage_returns:
        yield LintFault(
            location, "the lines end in CR LF", "convert the file: dos2unix, or sed -i 's/\\r$//'"
        )


@rule
def typographic_characters(case: Case) -> Faults:
    """Anaconda does not treat typographic quotes, dashes and spaces as quotes, hyphens and blanks.

    Source: Python's shlex, which splits the lines at ASCII blanks and quotes.
    """
    for command in case.ks.commands:
        if match := _TYPOGRAPHIC.search(" ".join((command.name, *command.arguments))):
            yield LintFault(
                command.location,
                f"the line has the character U+{ord(match[0]):04X}",
                "write plain quotes, hyphens and spaces",
            )


@risk
def log_path_form(case: Case) -> Faults:
    """The log of a script is a file with an absolute path.

    Source: RHEL's kickstart reference, `%post --log`.
    """
    for section in case.ks.sections_named(*SCRIPTS):
        path = section.script.logfile if section.script else ""
        if path and not path.startswith("/"):
            yield LintFault(
                section.location, f"--log={path} is not an absolute path", f"write --log=/root/{path}"
            )


def language(section: Section) -> str:
    """Return the name of the program that runs a script."""
    path = section.script.interp if section.script else "/bin/sh"
    return PurePosixPath(str(path).split()[0]).name if str(path).strip() else "sh"


def _shell(section: Section) -> Iterator[tuple[SourceLocation, str]]:
    for line, problem in _bash(_text(section)):
        yield SourceLocation(section.location.line + line, section.location.file), problem


@cache
def _bash(text: str) -> tuple[tuple[int, str], ...]:
    """Return the lines of a shell script that bash cannot parse, each with bash's message."""
    if not shutil.which("bash"):
        return ()
    run = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    messages = [(int(match[1]), match[2]) for line in run.stderr.splitlines() if (match := _LINE.match(line))]
    # a message that begins with "`" only repeats the line
    errors = [(line, message) for line, message in messages if not message.startswith("`")]
    return tuple((min(line, text.count("\n") + 1), message) for line, message in errors[:2])


def _python(section: Section) -> Iterator[tuple[SourceLocation, str]]:
    if not re.fullmatch(r"(platform-)?python(3(\.\d+)?)?", language(section)):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(_text(section))
    except SyntaxError as error:
        yield (
            SourceLocation(section.location.line + (error.lineno or 1), section.location.file),
            str(error.msg),
        )


def _text(section: Section) -> str:
    return "\n".join(section.body) + "\n"
