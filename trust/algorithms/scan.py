"""Scans files and folders for algorithms that are not approved, and applies the exceptions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from settings.toml import load
from settings.types import Table
from trust.algorithms.certificates import has_keys, scan_binary, scan_keys
from trust.algorithms.configuration import WHEEL, scan_configuration
from trust.algorithms.finding import AlgorithmFinding
from trust.algorithms.python_code import scan_python

SHIPPED: Final = Path(__file__).with_name("exceptions.toml")
FILE_BYTES_MAX: Final = 4 * 1024 * 1024
_CONFIGURATION: Final = {
    *(
        ".conf",
        ".cnf",
        ".config",
        ".cfg",
        ".ovpn",
        ".ks",
        ".sh",
        ".service",
        ".rules",
        ".secrets",
        ".pol",
        ".spec",
    ),
    *(".ini", ".crypt", ".ipsec", ".nmconnection", ".toml", ".yaml", ".yml", ".netdev", ".keys"),
}
_NAMES: Final = {
    *(
        "sshd_config",
        "ssh_config",
        "config",
        "crypttab",
        "grub.cfg",
        "current",
        "login.defs",
        "shadow",
        "grub",
    ),
}
_FOLDERS: Final = {"pam.d"}
"""Folders whose files are configuration."""
_CERTIFICATES: Final = {".crt", ".cer", ".der"}
"""Suffixes of files with a certificate, possibly in binary form (DER)."""


class ExceptionRow(Table, frozen=True):
    """Findings of one class of algorithms in one file that are intended."""

    file: str
    """The end of its path."""
    algorithm: str
    reason: str


class Exceptions(Table, frozen=True):
    """The file of exceptions."""

    exception: list[ExceptionRow] = []


def scan(
    paths: Iterable[Path], exceptions: Path = SHIPPED
) -> tuple[list[AlgorithmFinding], list[ExceptionRow]]:
    """Return the findings that are not excepted, and the exceptions that match nothing.

    Raises: SettingsError for a wrong file of exceptions; OSError for a path that does not exist.
    """
    rows = load(exceptions, Exceptions).exception
    findings: list[AlgorithmFinding] = []
    used: set[ExceptionRow] = set()
    for path in paths:
        for file in _files(path):
            if file.resolve() == exceptions.resolve():
                continue
            for finding in _scan_file(file):
                row = next((each for each in rows if _applies(each, finding)), None)
                if row is None:
                    findings.append(finding)
                else:
                    used.add(row)
    return findings, [row for row in rows if row not in used]


def _applies(row: ExceptionRow, finding: AlgorithmFinding) -> bool:
    is_in_file = finding.file == row.file or finding.file.endswith(f"/{row.file}")
    return is_in_file and finding.algorithm == row.algorithm


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        yield from (Path(folder, name) for name in sorted(names))


def _scan_file(path: Path) -> Iterator[AlgorithmFinding]:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > FILE_BYTES_MAX:
        return
    data, file = path.read_bytes(), path.as_posix()
    if path.suffix != ".py" and has_keys(data):  # Python code may contain templates of keys
        yield from scan_keys(file, data)
    elif path.suffix in _CERTIFICATES:
        yield from scan_binary(file, data)
    if path.suffix == ".py":
        try:
            yield from scan_python(file, data.decode())
        except (SyntaxError, UnicodeDecodeError) as error:
            yield AlgorithmFinding(file, 0, "unknown", f"cannot be parsed as Python: {error}")
    elif (
        path.suffix in _CONFIGURATION
        or path.name in _NAMES
        or path.parent.name in _FOLDERS
        or WHEEL.search(file)
    ):
        yield from scan_configuration(file, data.decode("utf-8", "replace"))
