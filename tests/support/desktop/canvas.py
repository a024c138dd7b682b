"""The picture that a page with noVNC shows, compared by its hash."""

from __future__ import annotations

import hashlib

from wire.desktop.picture import Picture

SHOWN = """(() => { const canvas = document.querySelector("#screen canvas"); return canvas && canvas.width > 1
    ? crypto.subtle.digest("SHA-256", canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)
        .then(hash => Array.from(new Uint8Array(hash), byte => byte.toString(16).padStart(2, "0")).join(""))
    : "" })()"""
"""A script with the hash of the canvas; empty before it shows anything."""


def canvas_hash(picture: Picture) -> str:
    """Return the hash of a canvas that shows exactly this picture."""
    data = bytearray(b"\xff" * (4 * picture.area.pixels))
    for place in range(3):
        data[place::4] = picture.data[2 - place :: 4]
    return hashlib.sha256(data).hexdigest()
