"""Listening addresses, access to files and directories, and the account that httpd runs as."""

from __future__ import annotations

import stat
from ipaddress import ip_address
from pathlib import Path
from pwd import getpwnam
from typing import Final

from imaging.check.apache.expect import has_no_options, is_not_loaded, location_of
from imaging.check.apache.httpd import ApacheServer
from imaging.check.apache.rule import ApacheFinding, Findings, rule

NO_SHELLS: Final = frozenset({"/sbin/nologin", "/usr/sbin/nologin", "/bin/false", "/usr/bin/false"})


@rule("AS24-U1-000360", "AS24-U2-000360")
def address_and_port(server: ApacheServer) -> Findings:
    """The server listens on specific addresses and ports."""
    if not server.named("listen"):
        yield ApacheFinding(str(server.conf), "has no Listen", "write Listen ADDRESS:PORT")
    for one in server.named("listen"):
        if not _is_specific(one.arguments[0]):
            yield ApacheFinding(
                one.location,
                f"Listen {one.arguments[0]}",
                "write Listen ADDRESS:PORT, of one instrument subnet",
            )
    for section in {(one.inside[0], one.location) for one in server.directives if one.inside}:
        name, _, address = section[0].partition(" ")
        if name.lower() == "virtualhost" and not _is_specific(address):
            yield ApacheFinding(section[1], f"<VirtualHost {address}>", "write <VirtualHost ADDRESS:PORT>")


def _is_specific(addresses: str) -> bool:
    """Return whether the first address of a list has a port and is not the unspecified address."""
    address, _, port = addresses.split()[0].strip('"').rpartition(":")
    try:
        return port.isdecimal() and not ip_address(address.strip("[]")).is_unspecified
    except ValueError:
        return False


@rule("AS24-U2-000350")
def root_denied(server: ApacheServer) -> Findings:
    """Access to the file system is denied by default, and .htaccess files are disabled."""
    root = [
        one for one in server.directives if one.inside and one.inside[-1] in ("Directory /", 'Directory "/"')
    ]
    requires = [one for one in root if one.name == "require"]
    if [one.arguments for one in requires] != [("all", "denied")]:
        repair = "write one Require all denied in <Directory />"
        yield ApacheFinding(
            location_of(server, requires[0] if requires else None), "<Directory /> is not denied", repair
        )
    for one in root:
        if one.name in ("allow", "deny"):
            yield ApacheFinding(
                one.location, f"{one.name} {' '.join(one.arguments)}", "write Require instead"
            )
    if not any(one.name == "allowoverride" for one in root):
        yield ApacheFinding(
            str(server.conf), "<Directory /> has no AllowOverride", "write AllowOverride None there"
        )
    for one in server.named("allowoverride", "allowoverridelist"):
        if [word.lower() for word in one.arguments] != ["none"]:
            yield ApacheFinding(
                one.location, f"AllowOverride {' '.join(one.arguments)}", "write AllowOverride None"
            )


@rule("AS24-U2-000620")
def no_listing(server: ApacheServer) -> Findings:
    """Directory listings are disabled."""
    yield from is_not_loaded(server, ("autoindex",))
    yield from has_no_options(server, "indexes", "multiviews")
    if "dir" in server.modules and server.general("directoryindex") is None:
        yield ApacheFinding(str(server.conf), "has no DirectoryIndex", "write DirectoryIndex index.html")


@rule("AS24-U1-000430")
def not_root(server: ApacheServer) -> Findings:
    """The server does not run as root."""
    if server.user_id == 0 or not server.user:
        yield ApacheFinding(
            location_of(server, server.general("user")),
            f"runs as {server.user or 'root'}",
            "write User apache",
        )


@rule("AS24-U1-000940", severity="high")
def no_login(server: ApacheServer) -> Findings:
    """The server's account has no login shell."""
    try:
        shell = getpwnam(server.user).pw_shell
    except KeyError:
        yield ApacheFinding(
            location_of(server, server.general("user")),
            f"User {server.user} does not exist",
            "write User apache",
        )
        return
    if shell not in NO_SHELLS:
        repair = f"usermod --shell /sbin/nologin {server.user}"
        yield ApacheFinding(
            location_of(server, server.general("user")), f"{server.user} has the shell {shell}", repair
        )


@rule("AS24-U1-000440", "AS24-U2-000780", severity="high")
def configuration_owned_by_root(server: ApacheServer) -> Findings:
    """Only root can change the configuration."""
    for file in sorted({server.conf, *(one.file for one in server.directives)}):
        state = file.stat()
        if state.st_uid != 0 or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield ApacheFinding(
                str(file), "users other than root can change it", f"chown root {file}; chmod go-w {file}"
            )


@rule("AS24-U2-000390")
def private_key(server: ApacheServer) -> Findings:
    """Only root can read the private key."""
    for one in server.named("sslcertificatekeyfile"):
        file = Path(one.arguments[0])
        if file.exists() and (file.stat().st_mode & 0o077 or file.stat().st_uid != 0):
            yield ApacheFinding(
                one.location,
                f"users other than root can read {file}",
                f"chown root {file}; chmod 0600 {file}",
            )
