"""Static files, which are read and compressed once, and have a hash of their content in the path.

A changed file has another path, so browsers may cache each file for a year. The modules of noVNC import each other by
relative paths; they therefore share one hash.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from starlette.responses import Response

DIRECTORY: Final = Path(__file__).parent / "static"
PREFIX: Final = "/static"
MODULES: Final = "vendor/novnc/"
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Asset:
    """A static file; `path` is the path of its URL, `compressed` the body compressed by gzip."""

    path: str
    body: bytes
    compressed: bytes
    media_type: str


@cache
def load_assets() -> dict[str, Asset]:
    """Return all static files by their paths in DIRECTORY."""
    assets = {}
    files = {
        file.relative_to(DIRECTORY).as_posix(): file.read_bytes()
        for file in sorted(DIRECTORY.rglob("*"))
        if file.suffix in _TYPES
    }
    modules = b"".join(body for name, body in files.items() if name.startswith(MODULES))
    for name, body in files.items():
        version = sha256(modules if name.startswith(MODULES) else body).hexdigest()[:16]
        kind = _TYPES[f".{name.rpartition('.')[2]}"]
        assets[name] = Asset(f"{PREFIX}/{version}/{name}", body, gzip.compress(body, 9, mtime=0), kind)
    return assets


def asset_path(name: str) -> str:
    """Return the URL path of a static file, for templates. Raises: KeyError."""
    return load_assets()[name].path


def serve_asset(path: str, accepted_encoding: str) -> Response | None:
    """Return the static file at a path; None if there is none."""
    served = next((asset for asset in load_assets().values() if asset.path == path), None)
    if served is None:
        return None
    headers = {"cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}
    if "gzip" in accepted_encoding:
        headers["content-encoding"] = "gzip"
        return Response(served.compressed, 200, headers, served.media_type)
    return Response(served.body, 200, headers, served.media_type)
