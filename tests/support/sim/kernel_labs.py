"""A small lab of the kernel world, as the text of a lab file."""

from __future__ import annotations


def small_lab(
    name: str, report_every: str, *, duration: str = "5min", proxy: str = "", more: str = ""
) -> str:
    """Return a lab with an analyzer on port 1; `proxy` is a line of `[uplink]`, `more` contains further tables."""
    return f"""
[lab]
name = "{name}"
duration = "{duration}"
[box]
board = "rap-4"
linger = "100ms"
spool_bytes_max = "16MiB"
[uplink]
rate = "10Mbit"
{proxy}
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "{report_every}"
{more}
"""
