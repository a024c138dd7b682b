"""Generates `rap-listen.conf`, the virtual hosts of httpd for the local page; rap.conf includes this file.

httpd listens only on the box's address at each instrument port (STIG AS24-U1-000360). The collector uses port 443 of
these addresses. Each virtual host passes the number of its instrument port to the box program. It accepts only
requests from its own subnet, and only with its own address or the page's name in the Host header, which prevents DNS
rebinding. ServerName prevents a reverse DNS lookup for each address when httpd starts or reloads; each lookup without
a response would take about ten seconds.
"""

from __future__ import annotations

from ipaddress import IPv4Interface
from typing import Final

from settings.board import Board
from settings.site import SiteOnBox

LISTEN: Final = "etc/httpd/conf/rap-listen.conf"
PAGE: Final = 8443
"""TCP port of the page. SELinux permits httpd to use it (http_port_t)."""


def listen_file(site: SiteOnBox, board: Board) -> str:
    """Return the content of rap-listen.conf for the instrument ports of `site`."""
    name = site.sessions.page_name if site.sessions else None
    hosts = [virtual_host(number, address, name) for number, address in site.ports(board).items()]
    return "".join(("# Written by /usr/lib/rap/provision from /etc/rap/site.toml; edit that file.\n", *hosts))


def virtual_host(number: int, address: IPv4Interface, name: str | None = None, tcp_port: int = PAGE) -> str:
    """Return the virtual host of instrument port `number` with the box's address; `name` is the page's DNS name."""
    listen = f"{address.ip}:{tcp_port}"
    names = [listen, f"{name}:{tcp_port}"] if name else [listen]
    hosts = " || ".join(f"%{{HTTP_HOST}} == '{host}'" for host in names)
    return f"""\
Listen {listen}
<VirtualHost {listen}>
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
