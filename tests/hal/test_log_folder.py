"""The service that reads the audit log, and its client: they give read access to this log and no other file."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal.disk import DiskError, DiskErrorKind
from hal.linux.log_folder import CONTENT_BYTES_MAX, LinuxLogFolder
from tests.support.audit_log_service import audit_log_service


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a log of two files, and files that do not belong to the log."""
    folder = tmp_path / "audit"
    folder.mkdir(mode=0o700)
    (folder / "audit.log").write_bytes(b"new\n")
    (folder / "audit.log.1").write_bytes(b"older\n" * 10)
    (folder / "other.log").write_bytes(b"secret\n")
    (tmp_path / "audit.log.2").write_bytes(b"secret\n")
    (folder / "audit.log.3").symlink_to(tmp_path / "audit.log.2")
    return folder


@pytest.fixture
def log(folder: Path) -> Iterator[LinuxLogFolder]:
    with audit_log_service(folder.parent / "socket", folder):
        log = LinuxLogFolder(folder.parent / "socket")
        yield log
        log.close()


def test_files_of_the_log_are_listed_and_read(log: LinuxLogFolder, folder: Path) -> None:
    assert log.names() == ["audit.log", "audit.log.1"]
    assert log.size("audit.log.1") == 60
    assert log.read("audit.log.1", 6, 6) == b"older\n"
    (folder / "audit.log").rename(folder / "audit.log.2")
    assert log.names() == ["audit.log.1", "audit.log.2"]
    long = bytes(range(256)) * 8192
    (folder / "audit.log").write_bytes(long)
    assert len(long) > CONTENT_BYTES_MAX
    assert log.read("audit.log", 3, len(long) - 3) == long[3:]


@pytest.mark.parametrize(
    "name", ["audit.log.9", "audit.log.9999999", "other.log", "../audit.log.2", "audit.log.3"]
)
def test_other_files_are_not_read(log: LinuxLogFolder, name: str) -> None:
    with pytest.raises(DiskError) as caught:
        log.read(name, 0, 3)
    expected = DiskErrorKind.MISSING if name == "audit.log.9" else DiskErrorKind.IO
    assert caught.value.kind is expected
    assert log.names(), "the service continues"


def test_a_file_shorter_than_the_requested_range_is_missing(log: LinuxLogFolder) -> None:
    with pytest.raises(DiskError, match="truncated or replaced") as caught:
        log.read("audit.log", 0, 5)
    assert caught.value.kind is DiskErrorKind.MISSING


@pytest.mark.parametrize(
    "request_",
    [b"\n", b"delete audit.log\n", b"read audit.log x 1\n", b"read audit.log 0 99999999\n", b"9" * 200],
)
def test_the_service_refuses_other_requests(request_: bytes, log: LinuxLogFolder, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(folder.parent / "socket"))
        client.sendall(request_)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100).startswith(b"failed\n")
    assert log.read("audit.log", 0, 4) == b"new\n"


def test_the_client_reconnects_to_a_restarted_service(folder: Path) -> None:
    path = folder.parent / "socket"
    log = LinuxLogFolder(path)
    with pytest.raises(DiskError, match="no response from the service") as caught:
        log.names()
    assert caught.value.kind is DiskErrorKind.IO
    for _ in range(2):
        with audit_log_service(path, folder):
            assert log.size("audit.log") == 4
    log.close()
