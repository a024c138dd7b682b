"""Board files: the shipped ones, and the errors for invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from settings.board import board_names, load_board
from settings.problems import SettingsError

VALID = 'name = "x"\nuplink = "e0"\n[instrument_ports]\n1 = "e1"\n'


def test_all_shipped_boards_load() -> None:
    assert {"rap-4", "rap-8"} <= set(board_names())
    for name, ports in (("rap-4", 4), ("rap-8", 8)):
        board = load_board(name)
        assert board.name == name and board.uplink
        assert list(board.instrument_ports) == list(range(1, ports + 1))
        assert "status" in board.leds and "chassis" in board.switches


def test_the_error_for_an_unknown_board_lists_the_known_ones() -> None:
    known = ", ".join(board_names())
    with pytest.raises(SettingsError, match=f"rap-5: unknown board name; known boards: {known}"):
        load_board("rap-5")


def test_a_board_loads_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nuplink = "eth0"\n[instrument_ports]\n1 = "eth1"\n')
    board = load_board(path)
    assert board.instrument_ports == {1: "eth1"}
    assert not board.serial_ports and not board.leds and not board.switches
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load_board(tmp_path / "other.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\nuplink = "e0"', "instrument_ports"),
        ('name = "x"\nuplink = "e0"\nlights = 2\n[instrument_ports]\n1 = "e1"', "lights"),
        ('name = "x"\nuplink = "e0"\n[instrument_ports]\n1 = "e0"', "'e0' is used twice"),
        ('name = "x"\nuplink = "e0"\n[instrument_ports]\n2 = "e1"', "without gaps"),
        ('name = "x"\nuplink = "e 0"\n[instrument_ports]\n1 = "e1"', "uplink"),
        ('name = "x"\nuplink = "e0"\n[instrument_ports]\nfirst = "e1"', "instrument_ports"),
        (f'{VALID}[leds]\nstatus = "../../etc"', "leds"),
        (f'{VALID}[switches]\nchassis = {{ device = "event0" }}', "switches"),
        (f'{VALID}[switches]\nchassis = {{ device = "/dev/input/event0", code = 64 }}', "code"),
        (f'{VALID}[serial_ports]\nfirst = "/dev/ttyS0"', "serial_ports"),
        ("name = ", "bad.toml"),
    ],
)
def test_an_invalid_board_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        load_board(path)
    assert str(path) in str(caught.value)
