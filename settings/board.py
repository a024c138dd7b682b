# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Board files: which interface is which port. Supporting a new box is a new TOML file, not code.

A board file in `settings/boards/` is known by its name ("rap-4"); any other by its path:

    name = "rap-4"
    summary = "compact fanless box: uplink and four instrument ports"
    uplink = "enp1s0"

    [instrument_ports]
    1 = "enp2s0"

and, where the box has such things, by the names that the program knows them by:

    [serial_ports]
    1 = "/dev/ttyS0"

    [leds]                                      # folders of /sys/class/leds
    status = "rap:green:status"

    [switches]                                  # input devices; closed is "on"
    chassis = { device = "/dev/input/by-path/platform-gpio-keys-event", code = 16 }
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from settings.problems import Problem, SettingsError
from settings.toml import load

_BOARDS = Path(__file__).parent / "boards"

# Linux: IFNAMSIZ is 16 with the terminating NUL.
Interface = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,15}\Z", examples=["enp1s0"])]
Device = Annotated[str, msgspec.Meta(pattern=r"^/dev/[!-~]+\Z", examples=["/dev/ttyS0"])]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,31}\Z", examples=["status"])]
# Linux: LED_MAX_NAME_SIZE is 64 with the terminating NUL; a folder's name, never a path
LedName = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9_:-][A-Za-z0-9_:.-]{0,62}\Z", examples=["rap:green:status"])
]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=64)]


class Switch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A switch of an input device. `code` is that of <linux/input-event-codes.h>; 16 is SW_MACHINE_COVER."""

    device: Device
    code: Annotated[int, msgspec.Meta(ge=0, le=63)] = 16


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of box. Port numbers are those printed on it, counted from 1."""

    name: str
    uplink: Interface
    instrument_ports: dict[PortNumber, Interface]
    summary: str = ""
    serial_ports: dict[PortNumber, Device] = {}
    leds: dict[Name, LedName] = {}
    switches: dict[Name, Switch] = {}

    def __post_init__(self) -> None:
        """Refuse a port map that no box can have."""
        interfaces = [self.uplink, *self.instrument_ports.values()]
        for interface in interfaces:
            if interfaces.count(interface) > 1:
                raise ValueError(f"interface {interface!r} has more than one port")
        if sorted(self.instrument_ports) != list(range(1, len(self.instrument_ports) + 1)):
            raise ValueError("`instrument_ports` must be numbered 1, 2, 3, … without a hole")


def board_names() -> list[str]:
    """The boards that ship with this package, sorted."""
    return sorted(path.stem for path in _BOARDS.glob("*.toml"))


def load_board(name_or_path: str | Path) -> Board:
    """The board of that name, or of that file if it ends in `.toml`. Raises: SettingsError."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = _BOARDS / f"{name_or_path}.toml"
        if str(name_or_path) not in board_names():
            known = ", ".join(board_names())
            raise SettingsError(
                Path(name_or_path), Problem("", f"there is no board of that name; there are {known}")
            )
    return load(path, Board)


def board_of(file: Path, name_or_path: str) -> Board:
    """The board that the settings in `file` name by their key `board`; a path is relative to `file`.

    Raises: SettingsError.
    """
    if name_or_path.endswith(".toml"):
        return load_board(file.parent / name_or_path)
    if name_or_path not in board_names():
        known = ", ".join(board_names())
        raise SettingsError.at(file, "board", f"there is no board {name_or_path!r}; there are {known}")
    return load_board(name_or_path)
