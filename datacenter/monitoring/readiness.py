"""Checks whether the data center can store reports: databases respond, and tables have this program's revision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select

from datacenter.bounds import database_file
from datacenter.store.errors import StoreError
from datacenter.store.migrate import version_table
from datacenter.store.store import Store
from datacenter.store.tables.schema import REVISION


def readiness(store: Store, url: str) -> Callable[[], str]:
    """Return a function that returns why the store is not usable, "" if it is usable, or raises StoreError.

    A process that has opened an SQLite file can still write to the file after it was removed or replaced; these
    writes are lost. Such a file is detected by its device and inode numbers.
    """
    file = database_file(url)
    opened = _identity(file) if file else None

    def problem() -> str:
        if file is not None and _identity(file) != opened:
            return "the file of the database was removed or replaced: restart the program"
        try:
            revisions = [
                next(part.read(select(version_table.c.version_num)), (None,))[0] for part in store.parts
            ]
        except StoreError as error:
            raise StoreError("the database failed") from error
        for revision in revisions:
            if revision != REVISION:
                return (
                    f"the tables have revision {revision}, but this program needs {REVISION}: "
                    "run `rap dc migrate`"
                )
        return ""

    return problem


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
