"""The site file on the box: what the box needs of it (`settings.site_tables`), and what the installer used up.

It is the site's own file, or the part of it that kickstart and flasher leave there
(`imaging.kickstart.site.for_box`).
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from settings.board import Board, BoardError, load_board
from settings.site_tables import AuditServer, SiteTables, explained, problems


class Audit(AuditServer, frozen=True, kw_only=True):
    """`authority` was the installer's."""

    authority: str = ""


class BoxSite(SiteTables, frozen=True, kw_only=True):
    """The site. These keys are the installer's, and not looked at."""

    audit: Audit
    timezone: object = None
    hostname: object = None
    release: object = None
    language: object = None
    keyboard: object = None
    administrator: object = None
    disk: object = None
    boot: object = None
    luks: object = None
    install: object = None


class ProvisionError(Exception):
    """The box cannot be provisioned: the file, the key in it ("" for the whole), what would be right."""

    def __init__(self, file: Path, key: str, message: str) -> None:
        super().__init__(f"{file}: {key}: {message}" if key else f"{file}: {message}")


def read_site(file: Path) -> str:
    """What the file says. Errors: ProvisionError."""
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise ProvisionError(file, "", f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ProvisionError(file, "", f"is not TOML: {error}") from error


def site_of(text: str, file: Path) -> tuple[BoxSite, Board]:
    """The site that is so described, and its board; `file` is where the text is from. Errors: ProvisionError."""
    try:
        site = msgspec.convert(tomllib.loads(text), BoxSite)
    except tomllib.TOMLDecodeError as error:
        raise ProvisionError(file, "", f"is not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ProvisionError(file, *explained(BoxSite, str(error))) from None
    if site.board.endswith(".toml") and Path(site.board).name != site.board:
        raise ProvisionError(file, "board", f"{site.board}: a board's file belongs beside the site's")
    try:
        board = load_board(file.parent / site.board if site.board.endswith(".toml") else site.board)
    except BoardError as error:
        raise ProvisionError(file, "board", str(error)) from error
    for key, problem in problems(site, board):
        raise ProvisionError(file, key, problem)
    return site, board
