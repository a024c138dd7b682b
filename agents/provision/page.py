"""Where the local page's server listens, as it follows from the site: `rap-listen.conf`, which its rap.conf includes.

On the box's address at each instrument port, and nowhere else (AS24-U1-000360). Port 443 there is the collector's.
"""

from __future__ import annotations

from typing import Final

from settings.board import Board
from settings.site import SiteOnBox

LISTEN: Final = "etc/httpd/conf/rap-listen.conf"
PAGE: Final = 8443
"""The page's TCP port; SELinux lets httpd have it (http_port_t)."""


def listen_file(site: SiteOnBox, board: Board) -> str:
    """rap-listen.conf."""
    lines = [f"Listen {address.ip}:{PAGE}\n" for address in site.ports(board).values()]
    return "".join(("# Written by /usr/lib/rap/provision from /etc/rap/site.toml; change that.\n", *lines))
