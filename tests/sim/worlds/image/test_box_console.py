"""The serial console of a box on a terminal."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.worlds.image.machine.console import ESCAPE, attach
from tests.support.eventually import WAIT_SECONDS_MAX


class Joined:
    """`attach` in a thread, with the box's end of the console and the ends of the terminal's pipes."""

    def __init__(self, folder: Path) -> None:
        path = str(folder / "console.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            typed, self.keys = os.pipe()
            self.shown, shown = os.pipe()
            self.status: list[int] = []
            self.thread = threading.Thread(target=lambda: self.status.append(attach(path, typed, shown)))
            self.thread.start()
            self.box, _ = listener.accept()
            self.box.settimeout(30)
        self._ends = (typed, self.keys, self.shown, shown)

    def end(self) -> list[int]:
        self.thread.join(WAIT_SECONDS_MAX)
        return self.status

    def close(self) -> None:
        self.box.close()
        self.thread.join(WAIT_SECONDS_MAX)
        for end in self._ends:
            os.close(end)


@pytest.fixture
def joined(tmp_path: Path) -> Iterator[Joined]:
    made = Joined(tmp_path)
    yield made
    made.close()


def test_keys_go_to_the_box_and_its_output_to_the_terminal(joined: Joined) -> None:
    joined.box.sendall(b"login: ")
    assert os.read(joined.shown, 100) == b"login: "
    os.write(joined.keys, b"labadmin\x03\n")
    assert joined.box.recv(100) == b"labadmin\x03\n"


def test_the_escape_key_leaves_after_what_was_typed_before_it(joined: Joined) -> None:
    os.write(joined.keys, b"exit\n" + ESCAPE + b"more")
    assert joined.end() == [0]
    assert joined.box.recv(100) == b"exit\n"
    assert joined.box.recv(100) == b""


def test_a_power_cut_ends_the_connection(joined: Joined) -> None:
    joined.box.close()
    assert joined.end() == [0]


def test_a_box_without_power_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert attach(str(tmp_path / "nothing.sock")) == 1
    assert "the box has no power" in capsys.readouterr().err
