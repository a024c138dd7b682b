"""Generates `rap-listen.conf`, the virtual hosts of the local page's server, which its rap.conf includes.

The server listens only on the box's address at each instrument port (STIG AS24-U1-000360). Port 443 of these
addresses belongs to the collector. Each virtual host passes the number of its port on to the box program, and
accepts requests from its own subnet alone, and for its own address or the page's name: a page of another site whose
name leads here (DNS rebinding) has another one. ServerName keeps httpd from asking DNS for the name of each address,
at its start and whenever it reloads: an answer that does not come would take some ten seconds for each port.
"""

from __future__ import annotations

from ipaddress import IPv4Interface
from typing import Final

from settings.board import Board
from settings.site import SiteOnBox

LISTEN: Final = "etc/httpd/conf/rap-listen.conf"
PAGE: Final = 8443
"""The page's TCP port, which SELinux permits for httpd (http_port_t)."""


def listen_file(site: SiteOnBox, board: Board) -> str:
    """Return the content of rap-listen.conf."""
    name = site.sessions.page_name if site.sessions else None
    hosts = [virtual_host(number, address, name) for number, address in site.ports(board).items()]
    return "".join(("# Written by /usr/lib/rap/provision from /etc/rap/site.toml; edit that file.\n", *hosts))


def virtual_host(number: int, address: IPv4Interface, name: str | None = None, tcp_port: int = PAGE) -> str:
    """Return the virtual host of an instrument port, where the box has `address`, and perhaps a name."""
    place = f"{address.ip}:{tcp_port}"
    names = [place, f"{name}:{tcp_port}"] if name else [place]
    hosts = " || ".join(f"%{{HTTP_HOST}} == '{each}'" for each in names)
    return f"""\
Listen {place}
<VirtualHost {place}>
    ServerName {address.ip}
    RequestHeader set X-Rap-Port {number}
    <Location "/">
        <RequireAll>
            Require method GET POST
            Require ip {address.network}
            Require expr "{hosts}"
        </RequireAll>
    </Location>
</VirtualHost>
"""
