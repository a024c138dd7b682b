"""Optional dependencies ("extras"): which commands need packages that a box does not have.

A box has only the base dependencies. pyproject.toml lists the packages of each extra. A command whose extra is not
installed exits with status 3 and names the extra.
"""

from __future__ import annotations

from typing import Final

from rap.outcome import MachineLacks

EXTRAS: Final = {
    "sim": frozenset({"sim", "simpy", "plotly", "pyroute2", "rich"}),
    "datacenter": frozenset(
        {
            "datacenter",
            "alembic",
            "apprise",
            "authlib",
            "cedarpy",
            "distributed",
            "httpx",
            "joserfc",
            "jinja2",
            "numpy",
            "pkcs11",
            "prometheus_client",
            "pyarrow",
            "python_multipart",
            "sqlalchemy",
            "starlette",
            "uvicorn",
            "websockets",
        }
    ),
    "imaging": frozenset(
        {
            "imaging",
            "bsdiff4",
            "jinja2",
            "packaging",
            "pykickstart",
            "reportlab",
            "rich",
            "securesystemslib",
            "tuf",
        }
    ),
    "proof": frozenset({"z3"}),
    "postgres": frozenset({"psycopg"}),
}
"""The modules of each extra: its third-party packages, and the packages of this project that require it."""
NOUNS: Final = {
    "lab": "sim",
    "dc": "datacenter",
    "trigger": "datacenter",
    "access": "datacenter",
    "flash": "imaging",
    "image": "imaging",
}
"""Nouns of `rap` whose verbs all need an extra."""


def missing_extra(error: ModuleNotFoundError, noun: str) -> MachineLacks | None:
    """Return the error to report if the module that `error` did not find belongs to an extra; None if it is a bug.

    If several extras contain the module (`sim` includes `datacenter`), the extra that the noun needs is reported.
    """
    name = error.name or ""
    module = "z3" if name.startswith("netfw.proof") else name.partition(".")[0]
    containing = [extra for extra, modules in EXTRAS.items() if module in modules]
    if not containing:
        return None
    noun_extra = NOUNS.get(noun, containing[0])
    extra = "proof" if module == "z3" else noun_extra if noun_extra in containing else containing[0]
    return MachineLacks(f"this command needs {module}, which is not installed: install rap-box[{extra}]")
