"""Generates `rap-listen.conf`, the listen addresses of the local page's server, which its rap.conf includes.

The server listens only on the box's address at each instrument port (STIG AS24-U1-000360). Port 443 of these
addresses belongs to the collector.
"""

from __future__ import annotations

from typing import Final

from settings.board import Board
from settings.site import SiteOnBox

LISTEN: Final = "etc/httpd/conf/rap-listen.conf"
PAGE: Final = 8443
"""The page's TCP port, which SELinux permits for httpd (http_port_t)."""


def listen_file(site: SiteOnBox, board: Board) -> str:
    """Return the content of rap-listen.conf."""
    lines = [f"Listen {address.ip}:{PAGE}\n" for address in site.ports(board).values()]
    return "".join(("# Written by /usr/lib/rap/provision from /etc/rap/site.toml; edit that file.\n", *lines))
