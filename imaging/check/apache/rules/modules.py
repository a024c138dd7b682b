"""Loaded modules, handlers and programs that httpd could start."""

from __future__ import annotations

from typing import Final

from imaging.check.apache.expect import has_no_options, has_none_of, has_value, is_not_loaded
from imaging.check.apache.httpd import ApacheServer
from imaging.check.apache.rule import ApacheFinding, Findings, load_data, rule

SHELLS: Final = frozenset({".sh", ".csh", ".ksh", ".bash", "application/x-sh", "application/x-csh"})
CGI: Final = frozenset({"cgi", "cgid", "fcgid", "suexec", "include", "isapi", "actions", "lua", "ext_filter"})
REVERSE: Final = frozenset({"proxy", "proxy_http"})
"""Modules of a reverse proxy."""


@rule("AS24-U1-000230")
def modules_reviewed(server: ApacheServer) -> Findings:
    """Only modules that the local page needs are loaded."""
    for name in sorted(server.modules - load_data().modules.keys()):
        repair = "remove its LoadModule, or state its purpose in firmware-image/stig/httpd.toml"
        yield ApacheFinding(str(server.conf), f"{name}_module is loaded", repair)


@rule("AS24-U1-000330")
def no_dav(server: ApacheServer) -> Findings:
    """WebDAV is disabled."""
    yield from is_not_loaded(server, ("dav", "dav_fs", "dav_lock"))


@rule("AS24-U1-000260")
def no_proxy(server: ApacheServer) -> Findings:
    """The server is not a proxy to other machines; it may forward requests to a local program at a UNIX socket."""
    proxies = {name for name in server.modules if name.startswith("proxy")}
    yield from is_not_loaded(server, sorted(proxies - REVERSE))
    yield from has_none_of(server, "ProxyPassMatch", "ProxyRemote", "ProxyRemoteMatch")
    if proxies:
        yield from has_value(server, "ProxyRequests", ("off",), "Off")
    for one in server.named("proxypass"):
        if not any(word.startswith("unix:/") for word in one.arguments[:2]):
            problem = f"ProxyPass {' '.join(one.arguments)}"
            yield ApacheFinding(one.location, problem, "forward requests to a UNIX socket (unix:/…|http://…)")


@rule("AS24-U1-000270", severity="high")
def no_examples(server: ApacheServer) -> Findings:
    """No manual, status page, server information or example is served."""
    for one in server.named("sethandler"):
        problem = f"SetHandler {' '.join(one.arguments)}"
        yield ApacheFinding(one.location, problem, "the local page does not need it; remove it")
    for one in server.named("alias", "aliasmatch"):
        if any("manual" in word or "icons" in word for word in one.arguments):
            yield ApacheFinding(
                one.location, f"{one.name} {' '.join(one.arguments)}", "remove the manual and its icons"
            )
    yield from is_not_loaded(server, ("status", "info"))


@rule("AS24-U1-000300", "AS24-U2-000320")
def no_handlers(server: ApacheServer) -> Findings:
    """No handler may execute files."""
    yield from has_none_of(server, "Action", "AddHandler", "AddOutputFilter", "SetOutputFilter")


@rule("AS24-U1-000310", "AS24-U2-000310")
def no_scripts(server: ApacheServer) -> Findings:
    """No program runs for a request (CGI, server-side includes)."""
    yield from has_none_of(server, "Script", "ScriptAlias", "ScriptAliasMatch", "ScriptInterpreterSource")
    yield from is_not_loaded(server, CGI)
    yield from has_no_options(server, "execcgi", "includes", "includesnoexec")


@rule("AS24-U2-000300")
def no_shell_types(server: ApacheServer) -> Findings:
    """No file type is assigned to a shell."""
    for one in server.named("addtype", "addhandler", "action"):
        if SHELLS & {word.lower() for word in one.arguments}:
            yield ApacheFinding(
                one.location, f"{one.name} {' '.join(one.arguments)}", "remove file types of shells"
            )


@rule("AS24-U1-000240", "AS24-U2-000240")
def no_user_management(server: ApacheServer) -> Findings:
    """The server has no user management."""
    yield from has_none_of(server, "AuthUserFile", "AuthGroupFile", "AuthDBMUserFile", "AuthLDAPURL")


@rule("AS24-U1-000960", severity="high")
def maintained_version(server: ApacheServer) -> Findings:
    """The httpd version is maintained."""
    if server.version < (2, 4):
        version = ".".join(map(str, server.version))
        yield ApacheFinding(
            str(server.conf), f"is for httpd {version}", "install httpd 2.4 of a maintained release"
        )
