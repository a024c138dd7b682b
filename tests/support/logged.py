"""The messages of one logger: asyncio's, of an earlier test's tasks, arrive when these are collected."""

from __future__ import annotations

import pytest


def logged(caplog: pytest.LogCaptureFixture, logger: str) -> list[str]:
    """Return the messages of a logger and of those below it."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == logger or record.name.startswith(f"{logger}.")
    ]
