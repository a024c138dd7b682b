"""Parsing a kickstart into commands and sections with their lines, each parsed separately by pykickstart.

pykickstart stops at the first error of some kinds, only prints errors of other kinds, and loses the line numbers of
most. Here the file is first split into commands and sections, and each is passed to the handler of the version; an
error becomes a `ParseRefusal` with its line, and parsing continues.

`%include` is followed. A file that does not exist may be written by a `%pre` script; if that script writes it as a
here-document, its lines are parsed as commands as well, except for those with shell variables.
"""

from __future__ import annotations

import codecs
import copy
import re
import shlex
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pykickstart.base import RemovedCommand
from pykickstart.errors import KickstartDeprecationWarning, KickstartError
from pykickstart.parser import KickstartParser

from imaging.kickstart.handler import new_handler

SCRIPTS: Final = ("%pre", "%pre-install", "%post", "%onerror", "%traceback")
SECTIONS: Final = (*SCRIPTS, "%packages", "%addon", "%anaconda", "%certificate")
PYKICKSTART_BUGS: Final = (AttributeError, LookupError, TypeError, ValueError)
"""Errors that pykickstart raises for unexpected lines; Anaconda would stop with a traceback."""
INSTALLER_FILES: Final = ("/usr/share/anaconda/", "/run/install/", "/run/initramfs/")
"""Folders of the running installer, and of the medium that it mounts."""
INCLUDES_MAX: Final = 16
"""The maximum depth of nested includes."""
BYTE_ORDER_MARK: Final = "byte order mark"
_BOM: Final = "\ufeff"
_LINE_END: Final = re.compile(r"\r\n|\n|\r")
"""The line endings of pykickstart; str.splitlines() also splits at form feeds and Unicode's separators."""
HERE_QUOTED: Final = "the delimiter of the here-document is quoted"
HERE_PLAIN: Final = "the delimiter of the here-document is not quoted"
_WHOLE_VARIABLE: Final = re.compile(r"=[\"']?(\$\{?[A-Za-z_]\w*\}?)[\"']?(?=\s|$)")
_HASH: Final = re.compile(r"(?<!\\)\$(?:1|5|6|7|y|gy|2[abxy])\$(?=[\w./=]{2,}\$)")
_HERE: Final = re.compile(r"<<-?\s*(['\"\\]?)(\w+)['\"]?")


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """A line of a kickstart file; lines are numbered from 1."""

    line: int
    file: str


@dataclass(frozen=True, slots=True)
class KickstartCommand:
    """One command. `data` is pykickstart's object for it, or None if it was refused or is unknown."""

    location: SourceLocation
    name: str
    arguments: tuple[str, ...]
    data: Any

    def option(self, name: str) -> Any:
        """Return the value of an option by pykickstart's name for it; "" if the command has no such option."""
        return getattr(self.data, name, "")


@dataclass(frozen=True, slots=True)
class Section:
    """A section; `body` has the lines before %end. `script` is pykickstart's object, for scripts."""

    location: SourceLocation
    name: str
    arguments: tuple[str, ...]
    body: tuple[str, ...]
    script: Any = None

    def lines(self) -> Iterator[tuple[SourceLocation, str]]:
        """Yield the lines of the body, each with its location."""
        for number, text in enumerate(self.body, self.location.line + 1):
            yield SourceLocation(number, self.location.file), text


@dataclass(frozen=True, slots=True)
class ParseRefusal:
    """An error or deprecation on a line; `word` is the command or section."""

    location: SourceLocation
    word: str
    message: str
    deprecated: bool = False


@dataclass(frozen=True, slots=True)
class KickstartDocument:
    """A parsed kickstart.

    `open_ended`: a %pre script generates commands that cannot be known before the installation.
    """

    path: Path
    version: str
    commands: list[KickstartCommand] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    refusals: list[ParseRefusal] = field(default_factory=list)
    missing_includes: list[tuple[SourceLocation, str]] = field(default_factory=list)
    packages: Any = None
    open_ended: bool = False
    carriage_returns: list[SourceLocation] = field(default_factory=list)
    """The first line and the section headers of files whose lines end in CR LF."""

    def named(self, *names: str) -> Iterator[KickstartCommand]:
        """Return the commands of these names that pykickstart accepted, in order."""
        return (command for command in self.commands if command.name in names and command.data is not None)

    def last(self, name: str) -> KickstartCommand | None:
        """Return the last command of this name, which replaces earlier ones, or None."""
        return next(reversed(list(self.named(name))), None)

    def has_command(self, *names: str) -> bool:
        """Return whether one of these commands occurs, valid or not."""
        return any(command.name in names for command in self.commands)

    def sections_named(self, *names: str) -> Iterator[Section]:
        """Return the sections of these names, in order."""
        return (section for section in self.sections if section.name in names)

    @property
    def top(self) -> SourceLocation:
        """The location for findings about something that is missing: the first line."""
        return SourceLocation(1, str(self.path))


class KickstartUnreadable(Exception):
    """The kickstart cannot be read; the message names the file and the correction."""


def stated_version(path: Path) -> str:
    """Return the version in Anaconda's comment `#version=RHEL9`, or ""."""
    for line in _text(path).splitlines():
        if line.lstrip(_BOM).startswith("#version="):
            return line.partition("=")[2].strip()
    return ""


def read(path: Path, version: str) -> KickstartDocument:
    """Parse the kickstart in `path`, in the syntax of `version` ("RHEL9"). Raises: KickstartUnreadable."""
    return _Reader(path, version).read()


def _text(path: Path) -> str:
    """Return the text of a kickstart, with its line endings. Raises: KickstartUnreadable."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise KickstartUnreadable(f"{path}: cannot be read: {error.strerror}") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or content[:4].count(0) > 1:
        raise KickstartUnreadable(
            f"{path}:1: is UTF-16, and Anaconda reads UTF-8; convert it: iconv -f UTF-16 -t UTF-8"
        )
    if b"\0" in content:
        raise KickstartUnreadable(f"{path}:{_line(content, content.index(0))}: has a NUL byte; remove it")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise KickstartUnreadable(
            f"{path}:{_line(content, error.start)}: is not UTF-8 text; convert it, such as: iconv -f LATIN1 -t UTF-8"
        ) from None


def _line(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def _first(text: str) -> str:
    """Return the first word of a line, or ""."""
    return next(iter(text.split(maxsplit=1)), "")


class _Reader:
    """Splits a file and its includes into commands and sections."""

    def __init__(self, path: Path, version: str) -> None:
        self._path = path
        self._version = version
        self._handler = new_handler(version)
        self._parser = KickstartParser(self._handler, followIncludes=False)
        self._document = KickstartDocument(path, version)
        self._open_ended = False
        self._unresolved_includes: list[tuple[SourceLocation, str]] = []

    def read(self) -> KickstartDocument:
        self._file(self._path, depth=0)
        for location, target in self._unresolved_includes:
            self._parse_generated(location, target)
        return KickstartDocument(
            self._path,
            self._version,
            self._document.commands,
            self._document.sections,
            self._document.refusals,
            self._document.missing_includes,
            self._handler.packages if any(self._document.sections_named("%packages")) else None,
            self._open_ended,
            self._document.carriage_returns,
        )

    def _file(self, path: Path, depth: int) -> None:
        content = _text(path)
        windows = "\r\n" in content
        lines = _LINE_END.split(content.removeprefix(_BOM))
        number = 0
        if content.startswith(_BOM):
            self._refuse(
                SourceLocation(1, str(path)),
                BYTE_ORDER_MARK,
                "the file begins with a byte order mark, which Anaconda reads as a part of the first word",
            )
        if windows:
            self._document.carriage_returns.append(SourceLocation(1, str(path)))
        while number < len(lines):
            location = SourceLocation(number + 1, str(path))
            text = lines[number].strip()
            number += 1
            if not text or text.startswith("#"):
                continue
            if text.startswith(("%include", "%ksappend")):
                self._include(location, text, path.parent, depth)
            elif text.split()[0] == "%end":
                self._refuse(location, "%end", "there is no section to end")
            elif text.startswith("%"):
                if windows:
                    self._document.carriage_returns.append(location)
                number = self._section(location, text, lines, number)
            else:
                self._command(location, text, certain=True)

    def _section(self, location: SourceLocation, text: str, lines: list[str], start: int) -> int:
        """Parse a section. Returns the index of the first line after it."""
        words = self._split(location, text)
        end = start
        while end < len(lines) and _first(lines[end]) not in ("%end", *SECTIONS):
            end += 1
        closed = end < len(lines) and _first(lines[end]) == "%end"
        if not words:
            return end + closed
        name, body = words[0], tuple(lines[start:end])
        if name not in SECTIONS:
            self._refuse(location, name, f"there is no section {name}")
        elif not closed:
            self._refuse(location, name, f"section {name} does not end with %end")
        else:
            self._parse_section(location, "\n".join((text, *body, "%end", "")), name)
        scripts = self._handler.scripts
        script = scripts[-1] if name in SCRIPTS and closed and scripts else None
        self._document.sections.append(Section(location, name, tuple(words[1:]), body, script))
        return end + closed

    def _parse_section(self, location: SourceLocation, text: str, name: str) -> None:
        with self._refusing(location, name):
            self._parser.readKickstartFromString(text)

    def _command(self, location: SourceLocation, text: str, *, certain: bool) -> None:
        """Parse a command. If it is not `certain`, a script writes it, and it may contain shell variables."""
        words = self._split(location, text)
        if not words:
            return
        data: Any = None
        if not certain and re.search(r"=\s*\"?[$`]", re.sub(r"--passphrase=\S+", "", text)):
            self._open_ended = True
        else:
            with self._refusing(location, words[0]):
                self._handler.currentLine = text
                data = copy.copy(self._handler.dispatcher(words, location.line))
                if isinstance(data, RemovedCommand):
                    data = None
        self._document.commands.append(KickstartCommand(location, words[0], tuple(words[1:]), data))

    def _include(self, location: SourceLocation, text: str, folder: Path, depth: int) -> None:
        words = self._split(location, text)
        target = words[1] if len(words) > 1 else ""
        if "://" in target or target.startswith(INSTALLER_FILES):
            self._open_ended = True
        elif not target or depth >= INCLUDES_MAX:
            self._refuse(
                location,
                words[0] if words else "%include",
                "it names no file, or includes are nested too deeply",
            )
        elif (folder / target).is_file() and not self._is_generated(target):
            self._file(folder / target, depth + 1)
        else:
            self._unresolved_includes.append((location, target))

    def _is_generated(self, target: str) -> bool:
        """Return whether a script writes the file, so that its content exists only during the installation."""
        lines = _text(self._path).splitlines()
        return any(target in line for line in lines if not line.lstrip().startswith("%include"))

    def _parse_generated(self, location: SourceLocation, target: str) -> None:
        """Parse the commands of a file that a %pre script writes, as far as they are known."""
        writers = [
            s
            for s in self._document.sections_named("%pre", "%pre-install")
            if any(target in line for line in s.body)
        ]
        if not writers:
            self._document.missing_includes.append((location, target))
        for section in writers:
            changed = [line for line in section.body if target in line and not _HERE.search(line)]
            lines = [] if changed else list(here_document(section, target))
            self._open_ended |= not lines
            quoted = any(
                target in line and (match := _HERE.search(line)) and match[1] for line in section.body
            )
            for at, text in lines:
                self._check_expansion(at, text, quoted=bool(quoted))
                self._command(at, text, certain=False)

    def _check_expansion(self, location: SourceLocation, text: str, *, quoted: bool) -> None:
        """Refuse a variable that the shell does not replace, and a password hash in which it replaces variables."""
        if quoted and (match := _WHOLE_VARIABLE.search(text)):
            self._refuse(location, text.split()[0], f"{HERE_QUOTED}, so that {match[1]} remains unchanged")
        elif not quoted and (match := _HASH.search(text)):
            self._refuse(location, text.split()[0], f"{HERE_PLAIN}, so that the shell changes {match[0]}…")

    def _split(self, location: SourceLocation, text: str) -> list[str]:
        try:
            return shlex.split(text, comments=True)
        except ValueError as error:
            self._refuse(location, text.split()[0], f"quotation marks: {error}")
            return []

    def _refuse(self, location: SourceLocation, word: str, message: str, *, deprecated: bool = False) -> None:
        self._document.refusals.append(ParseRefusal(location, word, " ".join(message.split()), deprecated))

    def _refusing(self, location: SourceLocation, word: str) -> _Refusing:
        return _Refusing(self, location, word)


class _Refusing:
    """A context manager that records pykickstart's errors and deprecation warnings as refusals of a line."""

    def __init__(self, reader: _Reader, location: SourceLocation, word: str) -> None:
        self._refuse = reader._refuse
        self._location = location
        self._word = word
        self._catching = warnings.catch_warnings(record=True)
        self._caught: list[warnings.WarningMessage] | None = None

    def __enter__(self) -> None:
        self._caught = self._catching.__enter__()
        warnings.simplefilter("always")

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
        self._catching.__exit__(kind, error, traceback)
        if isinstance(error, KickstartError):
            self._refuse(self._location, self._word, str(error.message))
        elif isinstance(error, PYKICKSTART_BUGS):
            self._refuse(self._location, self._word, f"pykickstart cannot read it ({error})")
        for warning in self._caught or ():
            if issubclass(warning.category, KickstartDeprecationWarning):
                self._refuse(self._location, self._word, str(warning.message), deprecated=True)
        return isinstance(error, (KickstartError, *PYKICKSTART_BUGS))


def here_document(section: Section, target: str) -> Iterator[tuple[SourceLocation, str]]:
    """Yield the lines that a script writes into `target` with `cat > target <<WORD`."""
    ending = ""
    for location, text in section.lines():
        if ending and text.strip() == ending:
            ending = ""
        elif ending:
            if text.strip() and not text.lstrip().startswith("#"):
                yield location, text.strip()
        elif target in text and (match := _HERE.search(text)):
            ending = match[2]
