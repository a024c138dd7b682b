"""Listening Unix sockets: one program per path, the requested mode, and no other file is removed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hal.unix_socket import Listener, peer


@pytest.mark.parametrize("mode", [0o600, 0o660])
@pytest.mark.parametrize("umask", [0, 0o22, 0o77])
def test_the_socket_has_the_requested_mode(mode: int, umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        listener = Listener(tmp_path / "socket", mode)
    finally:
        os.umask(before)
    assert (tmp_path / "socket").stat().st_mode & 0o777 == mode
    listener.close()
    assert not (tmp_path / "socket").exists()


def test_the_socket_of_a_killed_program_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    script = "from pathlib import Path; from hal.unix_socket import Listener; import os\n"
    script += f"Listener(Path({str(path)!r}), 0o600); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert path.is_socket()
    listener = Listener(path, 0o600)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(path))
        accepted, _ = listener.socket.accept()
        with accepted:
            assert peer(accepted) == (os.getpid(), os.geteuid(), os.getegid())
    listener.close()


def test_a_running_program_keeps_its_socket(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "socket", 0o600)
    with pytest.raises(FileExistsError, match="another program listens on this socket"):
        Listener(tmp_path / "socket", 0o600)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(tmp_path / "socket"))
    listener.close()


def test_a_file_that_is_not_a_socket_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "socket").write_text("a report")
    with pytest.raises(FileExistsError, match="is not a socket"):
        Listener(tmp_path / "socket", 0o600)
    assert (tmp_path / "socket").read_text() == "a report"
    (tmp_path / "link").symlink_to(tmp_path / "socket")
    with pytest.raises(FileExistsError, match="is not a socket"):
        Listener(tmp_path / "link", 0o600)


def test_a_symbolic_link_as_lock_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "socket.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Listener(tmp_path / "socket", 0o600)
    assert not (tmp_path / "elsewhere").exists()


def test_close_removes_only_the_listeners_own_socket(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "socket", 0o600)
    (tmp_path / "socket").unlink()
    (tmp_path / "socket").write_text("another")
    listener.close()
    assert (tmp_path / "socket").read_text() == "another"
