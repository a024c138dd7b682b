"""Reading an httpd configuration with httpd itself instead of a parser.

`httpd -t -D DUMP_CONFIG` (mod_info) prints every effective directive with its file and line, after processing
includes, <IfModule> and defines; the module is loaded for that call only. DUMP_MODULES and DUMP_RUN_CFG print the
loaded modules and the account. On Debian, the program is named apache2.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imaging.check.types import InvalidCheckInput
from imaging.programs import PrerequisiteMissing, ProgramFailed, install_hint, run_program

PROGRAMS: Final = ("httpd", "apache2")
MODULES: Final = ("/usr/lib64/httpd/modules", "/usr/lib/apache2/modules")
_FILE: Final = "# In file: "
_LINE: Final = re.compile(r" *# +(\d+):")
_MODULE: Final = re.compile(r"^ (\w+)_module \((?:static|shared)\)", re.MULTILINE)
_USER: Final = re.compile(r'^User: name="([^"]*)" id=(\d+)', re.MULTILINE)
_VERSION: Final = re.compile(r"Apache/(\d+(?:\.\d+)*)")


@dataclass(frozen=True, slots=True)
class Directive:
    """A directive: name in lower case, arguments, location, and the enclosing sections, the outermost first."""

    name: str
    arguments: tuple[str, ...]
    file: Path
    line: int
    inside: tuple[str, ...] = ()

    @property
    def location(self) -> str:
        """The location of the directive, for messages: "FILE:LINE"."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class ApacheServer:
    """An httpd configuration, and the version, account and modules of the httpd."""

    conf: Path
    version: tuple[int, ...]
    user: str
    user_id: int
    modules: frozenset[str]
    directives: tuple[Directive, ...]

    def named(self, *names: str) -> list[Directive]:
        """Return all directives with one of these names (lower case), in order."""
        return [one for one in self.directives if one.name in names]

    def general(self, name: str) -> Directive | None:
        """Return the effective directive outside of sections, or None."""
        directives = [one for one in self.named(name) if not one.inside]
        return directives[-1] if directives else None


def read_server(conf: Path, program: str = "") -> ApacheServer:
    """Read the configuration `conf` with httpd.

    `program` is the httpd to use, or "" for the installed one.
    Raises: InvalidCheckInput, with httpd's message; PrerequisiteMissing.
    """
    httpd = _find_httpd(program)
    conf = conf.absolute()
    if not conf.is_file():
        raise InvalidCheckInput(f"{conf}: does not exist; give the configuration file of httpd")
    state = _run_httpd(httpd, conf, "-D", "DUMP_MODULES", "-D", "DUMP_RUN_CFG")
    module = next(
        (path for path in (Path(folder, "mod_info.so") for folder in MODULES) if path.exists()), None
    )
    if module is None:
        raise PrerequisiteMissing(
            "mod_info.so: missing; apt-get install apache2-bin (Debian), dnf install httpd-core (RHEL)"
        )
    text = _run_httpd(httpd, conf, "-c", f"LoadModule info_module {module}", "-D", "DUMP_CONFIG")
    user = _USER.search(state)
    version = _VERSION.search(run_program([httpd, "-v"]))
    assert user and version, "httpd 2.4 prints both"
    numbers = tuple(int(part) for part in version[1].split("."))
    modules = frozenset(_MODULE.findall(state))
    return ApacheServer(conf, numbers, user[1], int(user[2]), modules, tuple(_directives(text)))


def _find_httpd(program: str) -> str:
    for name in [program] if program else PROGRAMS:
        if found := shutil.which(name) or shutil.which(name, path="/usr/sbin"):
            return found
    if program:
        raise InvalidCheckInput(
            f"--httpd-program {program}: does not exist; give a program such as /usr/sbin/httpd"
        )
    raise PrerequisiteMissing(f"httpd: missing; {install_hint(['httpd'])}")


def _run_httpd(httpd: str, conf: Path, *options: str) -> str:
    try:
        return run_program([httpd, "-t", "-f", conf, *options])
    except ProgramFailed as error:
        raise InvalidCheckInput(f"{conf}: httpd does not accept it: {error}") from None


def _directives(text: str) -> Iterator[Directive]:
    file, line, inside = Path(), 0, list[str]()
    for row in text.splitlines():
        stripped = row.strip()
        if stripped.startswith(_FILE):
            file = Path(stripped.removeprefix(_FILE))
        elif number := _LINE.match(row):
            line = int(number[1])
        elif stripped.startswith("</"):
            inside.pop()
        elif stripped.startswith("<"):
            inside.append(stripped.strip("<>"))
        elif stripped:
            name, _, rest = stripped.partition(" ")
            yield Directive(name.lower(), _split_arguments(rest), file, line, tuple(inside))


def _split_arguments(text: str) -> tuple[str, ...]:
    """Split the arguments of a directive as httpd does: quotes group words, and a backslash escapes only a quote."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters, lexer.escapedquotes = True, "", "\"'"
    try:
        return tuple(lexer)
    except ValueError:
        return (text,)
