"""The environment of a pytest that a test starts."""

from __future__ import annotations

import os


def child_environment(**added: str) -> dict[str, str]:
    """Return this process's environment with `added`, without `PYTEST_ADDOPTS`, which applies only to this run."""
    return {name: text for name, text in os.environ.items() if name != "PYTEST_ADDOPTS"} | added
