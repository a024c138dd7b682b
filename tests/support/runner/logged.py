"""The messages of one logger. asyncio may log messages about an earlier test's tasks when these are collected."""

from __future__ import annotations

import pytest


def logged(caplog: pytest.LogCaptureFixture, logger: str) -> list[str]:
    """Return the captured messages of a logger and of its descendants."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == logger or record.name.startswith(f"{logger}.")
    ]
