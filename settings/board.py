# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Board files: the network interface behind each port of a box model. A new box model needs a TOML file, no code.

A board file in `settings/boards/` is referred to by its name ("rap-4"), any other by its path:

    name = "rap-4"
    summary = "compact fanless box: uplink and four instrument ports"
    uplink = "enp1s0"

    [instrument_ports]
    1 = "enp2s0"

Boards with serial ports, LEDs or switches also list those, under the names that the program uses:

    [serial_ports]
    1 = "/dev/ttyS0"

    [leds]                                      # directory names in /sys/class/leds
    status = "rap:green:status"

    [switches]                                  # input devices; a closed cover is "on"
    chassis = { device = "/dev/input/by-path/platform-gpio-keys-event", code = 16 }
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Protocol

import msgspec

from settings.problems import Problem, Problems, SettingsError, parse_key
from settings.toml import load

_BOARDS = Path(__file__).parent / "boards"

# Linux: IFNAMSIZ is 16 with the terminating NUL.
Interface = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,15}\Z", examples=["enp1s0"])]
Device = Annotated[str, msgspec.Meta(pattern=r"^/dev/[!-~]+\Z", examples=["/dev/ttyS0"])]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,31}\Z", examples=["status"])]
# Linux: LED_MAX_NAME_SIZE is 64 with the terminating NUL. The pattern accepts a directory name, never a path.
LedName = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9_:-][A-Za-z0-9_:.-]{0,62}\Z", examples=["rap:green:status"])
]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=64)]


class Switch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A switch of an input device. `code` is an SW_* number of <linux/input-event-codes.h>: 16, SW_MACHINE_COVER."""

    device: Device
    code: Annotated[int, msgspec.Meta(ge=0, le=63)] = 16


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A box model. Port numbers are those printed on the box, counted from 1."""

    name: str
    uplink: Interface
    instrument_ports: dict[PortNumber, Interface]
    summary: str = ""
    serial_ports: dict[PortNumber, Device] = {}
    leds: dict[Name, LedName] = {}
    switches: dict[Name, Switch] = {}

    def __post_init__(self) -> None:
        """Refuse a duplicate interface or a gap in the port numbers."""
        interfaces = [self.uplink, *self.instrument_ports.values()]
        for interface in interfaces:
            if interfaces.count(interface) > 1:
                raise ValueError(
                    f"interface {interface!r} is used twice; each port needs a different interface"
                )
        if sorted(self.instrument_ports) != list(range(1, len(self.instrument_ports) + 1)):
            raise ValueError("`instrument_ports` must be numbered 1, 2, 3, … without gaps")


def board_names() -> list[str]:
    """Return the names of the boards that ship with this package, sorted."""
    return sorted(path.stem for path in _BOARDS.glob("*.toml"))


def load_board(name_or_path: str | Path) -> Board:
    """Load a board by its name, or from a file if the argument ends in `.toml`. Raises: SettingsError."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = _BOARDS / f"{name_or_path}.toml"
        if str(name_or_path) not in board_names():
            known = ", ".join(board_names())
            raise SettingsError(Path(name_or_path), Problem("", f"unknown board name; known boards: {known}"))
    return load(path, Board)


class HasBoard(Protocol):
    """The table of a settings file that names a board."""

    @property
    def board(self) -> str:
        """The name of a board, or the path of its file."""
        ...


def read_board_of(table: HasBoard, problems: Problems) -> Board | None:
    """Load the board of a settings file with a key `board`; None, with the problem added, if that is not possible.

    Raises: SettingsError for problems of the board's own file.
    """
    with problems.part():
        try:
            return load_board_of(problems.file, table.board)
        except SettingsError as error:
            if error.file != problems.file:
                raise
            for problem in error.problems:
                problems.add(parse_key(problem.key), problem.message)
    return None


def load_board_of(file: Path, name_or_path: str) -> Board:
    """Load the board that the key `board` of settings file `file` names; a path is relative to `file`.

    Raises: SettingsError.
    """
    if name_or_path.endswith(".toml"):
        return load_board(file.parent / name_or_path)
    if name_or_path not in board_names():
        known = ", ".join(board_names())
        raise SettingsError.at(file, "board", f"unknown board {name_or_path!r}; known boards: {known}")
    return load_board(name_or_path)
