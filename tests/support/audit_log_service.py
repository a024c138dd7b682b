"""The service that reads the system's audit log for the box program, started as systemd does it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

READ_AUDIT_LOG = ROOT / "firmware-image/root/usr/libexec/rap/read-audit-log"


@contextlib.contextmanager
def audit_log_service(socket_path: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the service for a folder: its standard input is the listening socket."""
    with contextlib.suppress(FileNotFoundError):
        socket_path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        with subprocess.Popen(
            [sys.executable, "-IS", READ_AUDIT_LOG, folder], stdin=listener.fileno()
        ) as service:
            try:
                yield service
            finally:
                service.kill()
