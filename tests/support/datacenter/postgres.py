"""A PostgreSQL server of the tests' own, in a temporary folder and on a Unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

USER = "postgres"


@contextmanager
def running_server(*, flushes: bool = False) -> Iterator[str]:
    """Run a server, without flushes unless `flushes`; gives the SQLAlchemy URL of an empty database."""
    if (programs := find_programs()) is None:
        pytest.skip("needs PostgreSQL: run `make setup-kernel` as root")
    with TemporaryDirectory(prefix="rap-postgres-", ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, USER)
        data, log = f"{folder}/data", f"{folder}/log"
        _run(programs / "initdb", "--no-sync", "--auth=trust", f"--username={USER}", "--encoding=UTF8", data)
        options = (
            f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync={'on' if flushes else 'off'}"
        )
        _run(programs / "pg_ctl", "-D", data, "-w", "-l", log, "-o", options, "start")
        try:
            yield f"postgresql+psycopg://{USER}@/postgres?host={folder}"
        finally:
            _run(programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


def find_programs() -> Path | None:
    """Return the folder of initdb and pg_ctl, which Debian leaves out of PATH; None where PostgreSQL is missing."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    return max((path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None)


def _run(program: Path, *arguments: str) -> None:
    """Run a program of PostgreSQL, which refuses to run as root."""
    user = USER if os.geteuid() == 0 else None
    subprocess.run(
        [str(program), *arguments],
        check=True,
        user=user,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
