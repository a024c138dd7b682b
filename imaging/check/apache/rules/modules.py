"""Loaded modules, handlers and programs that httpd could start."""

from __future__ import annotations

from typing import Final

from imaging.check.apache.expect import has_no_options, has_none_of, is_not_loaded
from imaging.check.apache.httpd import ApacheServer
from imaging.check.apache.rule import ApacheFinding, Findings, load_data, rule

SHELLS: Final = frozenset({".sh", ".csh", ".ksh", ".bash", "application/x-sh", "application/x-csh"})
CGI: Final = frozenset({"cgi", "cgid", "fcgid", "suexec", "include", "isapi", "actions", "lua", "ext_filter"})
PROXY: Final = "proxy"


@rule("AS24-U1-000230")
def modules_reviewed(server: ApacheServer) -> Findings:
    """No module is loaded but those that the box's page needs."""
    for name in sorted(server.modules - load_data().modules.keys()):
        repair = "leave its LoadModule out, or say in firmware-image/stig/httpd.toml what it is for"
        yield ApacheFinding(str(server.conf), f"{name}_module is loaded", repair)


@rule("AS24-U1-000330")
def no_dav(server: ApacheServer) -> Findings:
    """Nobody changes pages through the server (WebDAV)."""
    yield from is_not_loaded(server, ("dav", "dav_fs", "dav_lock"))


@rule("AS24-U1-000260")
def no_proxy(server: ApacheServer) -> Findings:
    """The server is no proxy."""
    yield from is_not_loaded(server, (name for name in server.modules if name.startswith(PROXY)))
    yield from has_none_of(server, "ProxyPass", "ProxyPassMatch", "ProxyRemote")
    for one in server.named("proxyrequests"):
        if one.words != ("Off",):
            yield ApacheFinding(one.spot, "ProxyRequests is on", "write ProxyRequests Off")


@rule("AS24-U1-000270", severity="high")
def no_examples(server: ApacheServer) -> Findings:
    """No manual, status, information or example is served."""
    for one in server.named("sethandler"):
        yield ApacheFinding(
            one.spot, f"SetHandler {' '.join(one.words)}", "the page needs none; leave it out"
        )
    for one in server.named("alias", "aliasmatch"):
        if any("manual" in word or "icons" in word for word in one.words):
            yield ApacheFinding(
                one.spot, f"{one.name} {' '.join(one.words)}", "leave the manual and its icons out"
            )
    yield from is_not_loaded(server, ("status", "info"))


@rule("AS24-U1-000300", "AS24-U2-000320")
def no_handlers(server: ApacheServer) -> Findings:
    """No kind of file is handed to a program."""
    yield from has_none_of(server, "Action", "AddHandler", "AddOutputFilter", "SetOutputFilter")


@rule("AS24-U1-000310", "AS24-U2-000310")
def no_scripts(server: ApacheServer) -> Findings:
    """Nothing runs on behalf of whoever asks (CGI, includes)."""
    yield from has_none_of(server, "Script", "ScriptAlias", "ScriptAliasMatch", "ScriptInterpreterSource")
    yield from is_not_loaded(server, CGI)
    yield from has_no_options(server, "execcgi", "includes", "includesnoexec")


@rule("AS24-U2-000300")
def no_shell_types(server: ApacheServer) -> Findings:
    """No type of file starts a shell."""
    for one in server.named("addtype", "addhandler", "action"):
        if SHELLS & {word.lower() for word in one.words}:
            yield ApacheFinding(one.spot, f"{one.name} {' '.join(one.words)}", "leave types of shells out")


@rule("AS24-U1-000240", "AS24-U2-000240")
def no_user_management(server: ApacheServer) -> Findings:
    """The server keeps no users of its own."""
    yield from has_none_of(server, "AuthUserFile", "AuthGroupFile", "AuthDBMUserFile", "AuthLDAPURL")


@rule("AS24-U1-000960", severity="high")
def supported(server: ApacheServer) -> Findings:
    """The server is one that is looked after."""
    if server.version < (2, 4):
        version = ".".join(map(str, server.version))
        yield ApacheFinding(
            str(server.conf), f"is for httpd {version}", "install httpd 2.4 of a release that is maintained"
        )
