"""The serial console of a box, attached to a terminal."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.worlds.image.machine.console import ESCAPE, attach
from tests.support.eventually import WAIT_SECONDS_MAX


class AttachedConsole:
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
def console(tmp_path: Path) -> Iterator[AttachedConsole]:
    attached = AttachedConsole(tmp_path)
    yield attached
    attached.close()


def test_keys_go_to_the_box_and_its_output_to_the_terminal(console: AttachedConsole) -> None:
    console.box.sendall(b"login: ")
    assert os.read(console.shown, 100) == b"login: "
    os.write(console.keys, b"labadmin\x03\n")
    assert console.box.recv(100) == b"labadmin\x03\n"


def test_the_escape_key_detaches_after_the_keys_typed_before_it(console: AttachedConsole) -> None:
    os.write(console.keys, b"exit\n" + ESCAPE + b"more")
    assert console.end() == [0]
    assert console.box.recv(100) == b"exit\n"
    assert console.box.recv(100) == b""


def test_a_power_cut_ends_the_connection(console: AttachedConsole) -> None:
    console.box.close()
    assert console.end() == [0]


def test_a_box_without_power_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert attach(str(tmp_path / "nothing.sock")) == 1
    assert "the box has no power" in capsys.readouterr().err
