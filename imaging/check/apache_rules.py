"""The rules of the Apache 2.4 STIG that a configuration answers, by what they are about."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from pwd import getpwnam
from typing import Final

from imaging.check.apache import ApacheFinding, Findings, at, load_data, rule
from imaging.check.httpd import ApacheServer, Directive

TIMEOUT_SECONDS_MAX: Final = 60
KEEP_ALIVE_REQUESTS_MIN: Final = 100
SESSION_SECONDS_MAX: Final = 600
PROTOCOLS: Final = frozenset({"tlsv1.2", "tlsv1.3"})
CIPHERS: Final = re.compile(
    r"(?:TLS_AES_(?:128|256)_GCM_SHA(?:256|384))|(?:ECDHE-(?:ECDSA|RSA)-AES(?:128|256)-GCM-SHA\d+)"
)
"""SP 800-52r2, 3.3.1, of it what the box's clients have: forward secrecy and authenticated encryption."""
LOG_FIELDS: Final = ("%a", "%A", "%h", "%H", "%l", "%m", "%s", "%t", "%u", "%U", "%{Referer}i")
SHELLS: Final = frozenset({".sh", ".csh", ".ksh", ".bash", "application/x-sh", "application/x-csh"})
NO_SHELLS: Final = frozenset({"/sbin/nologin", "/usr/sbin/nologin", "/bin/false", "/usr/bin/false"})
ERRORS: Final = ("400", "401", "403", "404", "405", "500")
CGI: Final = frozenset({"cgi", "cgid", "fcgid", "suexec", "include", "isapi", "actions", "lua", "ext_filter"})
PROXY: Final = "proxy"


def _wants(server: ApacheServer, name: str, right: Iterable[str], least: str) -> Findings:
    """A general directive with one of some values, in small letters; nobody may say otherwise."""
    allowed = set(right)
    if server.general(name.lower()) is None:
        yield ApacheFinding(str(server.conf), f"has no {name} outside of sections", f"write {name} {least}")
    for one in server.named(name.lower()):
        if " ".join(one.words).lower() not in allowed:
            yield ApacheFinding(one.spot, f"{name} {' '.join(one.words)}", f"write {name} {least}")


def _number(server: ApacheServer, name: str, low: int, high: int) -> Findings:
    """A general directive with a number in a range, wherever it is said."""
    if server.general(name.lower()) is None:
        yield ApacheFinding(str(server.conf), f"has no {name}", f"write {name} {high if low == 0 else low}")
    for one in server.named(name.lower()):
        number = one.words[0] if one.words else ""
        if not number.isdecimal() or not low <= int(number) <= high:
            yield ApacheFinding(one.spot, f"{name} {number}", f"write a number from {low} to {high}")


def _none_of(server: ApacheServer, *names: str) -> Findings:
    for one in server.named(*(name.lower() for name in names)):
        yield ApacheFinding(
            one.spot, f"{one.name} {' '.join(one.words)}", "the page needs none; leave it out"
        )


def _loaded(server: ApacheServer, *modules: str) -> Findings:
    for name in modules:
        if name not in server.modules:
            yield ApacheFinding(str(server.conf), f"{name}_module is not loaded", "add its LoadModule")


def _not_loaded(server: ApacheServer, modules: Iterable[str]) -> Findings:
    for name in sorted(server.modules & set(modules)):
        yield ApacheFinding(str(server.conf), f"{name}_module is loaded", "leave its LoadModule out")


# ---- modules ----


@rule("AS24-U1-000230")
def modules_reviewed(server: ApacheServer) -> Findings:
    """No module is loaded but those that the box's page needs."""
    for name in sorted(server.modules - load_data().modules.keys()):
        repair = "leave its LoadModule out, or say in firmware-image/stig/httpd.toml what it is for"
        yield ApacheFinding(str(server.conf), f"{name}_module is loaded", repair)


@rule("AS24-U1-000330")
def no_dav(server: ApacheServer) -> Findings:
    """Nobody changes pages through the server (WebDAV)."""
    yield from _not_loaded(server, ("dav", "dav_fs", "dav_lock"))


@rule("AS24-U1-000260")
def no_proxy(server: ApacheServer) -> Findings:
    """The server is no proxy."""
    yield from _not_loaded(server, (name for name in server.modules if name.startswith(PROXY)))
    yield from _none_of(server, "ProxyPass", "ProxyPassMatch", "ProxyRemote")
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
    yield from _not_loaded(server, ("status", "info"))


@rule("AS24-U1-000300", "AS24-U2-000320")
def no_handlers(server: ApacheServer) -> Findings:
    """No kind of file is handed to a program."""
    yield from _none_of(server, "Action", "AddHandler", "AddOutputFilter", "SetOutputFilter")


@rule("AS24-U1-000310", "AS24-U2-000310")
def no_scripts(server: ApacheServer) -> Findings:
    """Nothing runs on behalf of whoever asks (CGI, includes)."""
    yield from _none_of(server, "Script", "ScriptAlias", "ScriptAliasMatch", "ScriptInterpreterSource")
    yield from _not_loaded(server, CGI)
    yield from _options(server, "execcgi", "includes", "includesnoexec")


@rule("AS24-U2-000300")
def no_shell_types(server: ApacheServer) -> Findings:
    """No type of file starts a shell."""
    for one in server.named("addtype", "addhandler", "action"):
        if SHELLS & {word.lower() for word in one.words}:
            yield ApacheFinding(one.spot, f"{one.name} {' '.join(one.words)}", "leave types of shells out")


@rule("AS24-U1-000240", "AS24-U2-000240")
def no_user_management(server: ApacheServer) -> Findings:
    """The server keeps no users of its own."""
    yield from _none_of(server, "AuthUserFile", "AuthGroupFile", "AuthDBMUserFile", "AuthLDAPURL")


# ---- who may reach what ----


@rule("AS24-U1-000360", "AS24-U2-000360")
def address_and_port(server: ApacheServer) -> Findings:
    """The server listens on addresses that are named, each with its port."""
    if not server.named("listen"):
        yield ApacheFinding(str(server.conf), "has no Listen", "write Listen ADDRESS:PORT")
    for one in server.named("listen"):
        if not _is_specific(one.words[0]):
            yield ApacheFinding(
                one.spot, f"Listen {one.words[0]}", "write Listen ADDRESS:PORT, of one instrument subnet"
            )
    for section in {(one.inside[0], one.spot) for one in server.directives if one.inside}:
        name, _, address = section[0].partition(" ")
        if name.lower() == "virtualhost" and not _is_specific(address):
            yield ApacheFinding(section[1], f"<VirtualHost {address}>", "write <VirtualHost ADDRESS:PORT>")


def _is_specific(words: str) -> bool:
    address, _, port = words.split()[0].strip('"').rpartition(":")
    try:
        return port.isdecimal() and not ip_address(address.strip("[]")).is_unspecified
    except ValueError:
        return False


@rule("AS24-U2-000350")
def root_denied(server: ApacheServer) -> Findings:
    """Of the file system, nothing is served but what is named; and no folder has rules of its own (.htaccess)."""
    root = [
        one for one in server.directives if one.inside and one.inside[-1] in ("Directory /", 'Directory "/"')
    ]
    requires = [one for one in root if one.name == "require"]
    if [one.words for one in requires] != [("all", "denied")]:
        repair = "write one Require all denied in <Directory />"
        yield ApacheFinding(
            at(server, requires[0] if requires else None), "<Directory /> is not denied", repair
        )
    for one in root:
        if one.name in ("allow", "deny"):
            yield ApacheFinding(one.spot, f"{one.name} {' '.join(one.words)}", "write Require instead")
    if not any(one.name == "allowoverride" for one in root):
        yield ApacheFinding(
            str(server.conf), "<Directory /> has no AllowOverride", "write AllowOverride None there"
        )
    for one in server.named("allowoverride", "allowoverridelist"):
        if [word.lower() for word in one.words] != ["none"]:
            yield ApacheFinding(one.spot, f"AllowOverride {' '.join(one.words)}", "write AllowOverride None")


@rule("AS24-U2-000620")
def no_listing(server: ApacheServer) -> Findings:
    """Who asks for a folder gets its page, never a list."""
    yield from _not_loaded(server, ("autoindex",))
    yield from _options(server, "indexes", "multiviews")
    if server.general("directoryindex") is None:
        yield ApacheFinding(str(server.conf), "has no DirectoryIndex", "write DirectoryIndex index.html")


def _options(server: ApacheServer, *unwanted: str) -> Findings:
    """Options that are on somewhere; where nothing is said httpd has FollowSymLinks alone."""
    for one in server.named("options"):
        on = {word.lstrip("+").lower() for word in one.words if not word.startswith("-")}
        for name in sorted(on & {*unwanted, "all"}):
            yield ApacheFinding(one.spot, f"Options {name}", "write Options None")


@rule("AS24-U1-000430")
def not_root(server: ApacheServer) -> Findings:
    """What answers requests is nobody's account who matters."""
    if server.user_id == 0 or not server.user:
        yield ApacheFinding(
            at(server, server.general("user")), f"runs as {server.user or 'root'}", "write User apache"
        )


@rule("AS24-U1-000940", severity="high")
def no_login(server: ApacheServer) -> Findings:
    """Nobody can log in as the server."""
    try:
        shell = getpwnam(server.user).pw_shell
    except KeyError:
        yield ApacheFinding(
            at(server, server.general("user")), f"User {server.user} does not exist", "write User apache"
        )
        return
    if shell not in NO_SHELLS:
        repair = f"usermod --shell /sbin/nologin {server.user}"
        yield ApacheFinding(
            at(server, server.general("user")), f"{server.user} has the shell {shell}", repair
        )


@rule("AS24-U1-000440", "AS24-U2-000780", severity="high")
def own_files(server: ApacheServer) -> Findings:
    """Only root changes the configuration."""
    for file in sorted({server.conf, *(one.file for one in server.directives)}):
        state = file.stat()
        if state.st_uid != 0 or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield ApacheFinding(
                str(file), "others than root may change it", f"chown root {file}; chmod go-w {file}"
            )


@rule("AS24-U2-000390")
def private_key(server: ApacheServer) -> Findings:
    """Only root reads the private key."""
    for one in server.named("sslcertificatekeyfile"):
        file = Path(one.words[0])
        if file.exists() and (file.stat().st_mode & 0o077 or file.stat().st_uid != 0):
            yield ApacheFinding(
                one.spot, f"others than root may read {file}", f"chown root {file}; chmod 0600 {file}"
            )


# ---- encryption ----


@rule("AS24-U1-000030")
def encrypted(server: ApacheServer) -> Findings:
    """Everything is TLS."""
    yield from _loaded(server, "ssl")
    yield from _wants(server, "SSLEngine", ("on",), "on")


@rule("AS24-U2-000030")
def protocols(server: ApacheServer) -> Findings:
    """TLS 1.2 and 1.3, and nothing older."""
    found = server.named("sslprotocol")
    if server.general("sslprotocol") is None:
        yield ApacheFinding(
            str(server.conf), "has no SSLProtocol", "write SSLProtocol -all +TLSv1.2 +TLSv1.3"
        )
    for one in found:
        if not _enabled(one) or not _enabled(one) <= PROTOCOLS:
            problem = f"SSLProtocol {' '.join(one.words)}"
            yield ApacheFinding(one.spot, problem, "write SSLProtocol -all +TLSv1.2 +TLSv1.3")


def _enabled(one: Directive) -> set[str]:
    """What mod_ssl makes of its words: a bare name or "all" begins anew."""
    on: set[str] = set()
    every = {"tlsv1", "tlsv1.1", *PROTOCOLS}
    for word in one.words:
        name = word.lstrip("+-").lower()
        named = every if name == "all" else {name}
        on = on - named if word.startswith("-") else on | named if word.startswith("+") else named
    return on


@rule("AS24-U1-000900")
def ciphers(server: ApacheServer) -> Findings:
    """Approved ciphers alone, named one by one; the server chooses."""
    if server.general("sslciphersuite") is None:
        yield ApacheFinding(
            str(server.conf),
            "has no SSLCipherSuite",
            "name the suites, such as ECDHE-ECDSA-AES128-GCM-SHA256",
        )
    for one in server.named("sslciphersuite"):
        for name in one.words[-1].split(":"):
            if not CIPHERS.fullmatch(name):
                yield ApacheFinding(
                    one.spot, f"{name} is no approved suite", "name AES-GCM suites with ECDHE, one by one"
                )
    yield from _wants(server, "SSLHonorCipherOrder", ("on",), "on")


@rule("AS24-U2-000870")
def nothing_compressed(server: ApacheServer) -> Findings:
    """What is secret is not compressed together with what others choose."""
    yield from _not_loaded(server, ("deflate", "brotli"))
    for one in server.named("sslcompression"):
        if [word.lower() for word in one.words] != ["off"]:
            yield ApacheFinding(one.spot, "SSLCompression is on", "write SSLCompression Off")


# ---- sessions ----


@rule("AS24-U1-000470", "AS24-U1-000870", "AS24-U2-000470", "AS24-U2-000890")
def cookies(server: ApacheServer) -> Findings:
    """A cookie goes back encrypted, and to no script."""
    edits = [one for one in server.named("header") if "edit" in one.words and "Set-Cookie" in one.words]
    if not any(
        {"httponly", "secure"} <= set(re.findall(r"\w+", " ".join(one.words).lower())) for one in edits
    ):
        repair = 'write Header always edit Set-Cookie ^(.*)$ "$1; HttpOnly; Secure"'
        yield ApacheFinding(
            at(server, edits[0] if edits else None), "cookies are not made HttpOnly and Secure", repair
        )


@rule("AS24-U1-000460", "AS24-U2-000650")
def session_ends(server: ApacheServer) -> Findings:
    """A session, if there are any, ends after ten minutes."""
    if "session" in server.modules:
        yield from _number(server, "SessionMaxAge", 1, SESSION_SECONDS_MAX)


@rule("AS24-U1-000510")
def session_secret(server: ApacheServer) -> Findings:
    """A session's name, if there are any, cannot be guessed."""
    if "session" in server.modules:
        yield from _loaded(server, "session_crypto")


@rule("AS24-U1-000520", severity="high")
def unique_requests(server: ApacheServer) -> Findings:
    """Each request has a name of its own."""
    yield from _loaded(server, "unique_id")


# ---- limits ----


@rule("AS24-U1-000010")
def connections(server: ApacheServer) -> Findings:
    """Connections are kept, and for a hundred requests at least."""
    yield from _wants(server, "KeepAlive", ("on",), "On")
    yield from _number(server, "MaxKeepAliveRequests", KEEP_ALIVE_REQUESTS_MIN, 10_000)


@rule("AS24-U1-000590", "AS24-U2-000590")
def timeout(server: ApacheServer) -> Findings:
    """Whoever sends nothing is let go after a minute at most."""
    yield from _number(server, "Timeout", 1, TIMEOUT_SECONDS_MAX)


@rule("AS24-U1-000650", "AS24-U2-000660")
def slow_requests(server: ApacheServer) -> Findings:
    """Whoever sends slowly, too."""
    yield from _loaded(server, "reqtimeout")
    found = server.named("requestreadtimeout")
    if not any(
        any(w.startswith("header=") for w in one.words) and any(w.startswith("body=") for w in one.words)
        for one in found
    ):
        repair = "write RequestReadTimeout header=10-20,MinRate=500 body=10,MinRate=500"
        yield ApacheFinding(
            at(server, found[0] if found else None), "header or body may take for ever", repair
        )


# ---- what it tells ----


@rule("AS24-U1-000620", "AS24-U2-000630")
def says_little(server: ApacheServer) -> Findings:
    """It does not say which server it is, and its error pages are the box's own."""
    yield from _wants(server, "ServerTokens", ("prod", "productonly"), "Prod")
    yield from _wants(server, "ServerSignature", ("off",), "Off")
    pages = {one.words[0] for one in server.named("errordocument") if not one.inside}
    if missing := [code for code in ERRORS if code not in pages]:
        yield ApacheFinding(
            str(server.conf), f"has no ErrorDocument for {', '.join(missing)}", "write one for each"
        )


@rule("AS24-U1-000630", "AS24-U2-000640")
def no_traces(server: ApacheServer) -> Findings:
    """Nothing is there for finding the server's own mistakes."""
    yield from _wants(server, "TraceEnable", ("off",), "Off")
    for one in server.named("loglevel"):
        if any(re.search(r"(?:^|:)(?:debug|trace\d)$", word.lower()) for word in one.words):
            yield ApacheFinding(one.spot, f"LogLevel {' '.join(one.words)}", "write LogLevel info")


# ---- logs ----


@rule("AS24-U1-000065")
def logged(server: ApacheServer) -> Findings:
    """Requests and errors are recorded, also in each virtual host that has records of its own."""
    for name in ("CustomLog", "ErrorLog"):
        if server.general(name.lower()) is None:
            yield ApacheFinding(str(server.conf), f"has no {name} outside of sections", f"write {name}")
    for one in server.named("customlog"):
        if any(word.startswith(("env=", "expr=")) for word in one.words[2:]):
            yield ApacheFinding(
                one.spot, f"CustomLog leaves some requests out ({one.words[-1]})", "record all of them"
            )


@rule("AS24-U1-000070", "AS24-U2-000090")
def complete_records(server: ApacheServer) -> Findings:
    """A record says who, from where, what, when and how it ended."""
    yield from _loaded(server, "log_config")
    for one, form in _formats(server):
        if missing := [field for field in LOG_FIELDS if field not in _fields(form)]:
            yield ApacheFinding(
                one.spot, f"{' '.join(missing)} is not recorded", f"write all of {' '.join(LOG_FIELDS)}"
            )


@rule("AS24-U1-000750")
def records_have_times(server: ApacheServer) -> Findings:
    """A record has its time, to the second and with the zone."""
    for one, form in _formats(server):
        if "%t" not in _fields(form):
            yield ApacheFinding(one.spot, "the time is not recorded with its zone", "write %t")


def _formats(server: ApacheServer) -> list[tuple[Directive, str]]:
    """The format that each CustomLog records in; one without or with an unknown name has the Common Log Format."""
    common = '%h %l %u %t "%r" %>s %b'
    named = {one.words[1]: one.words[0] for one in server.named("logformat") if len(one.words) > 1}
    used = [
        (one, one.words[1] if len(one.words) > 1 else "") for one in server.named("customlog", "transferlog")
    ]
    return [(one, named.get(form, form if "%" in form else common)) for one, form in used]


def _fields(form: str) -> set[str]:
    """The fields of a format, without modifiers: %>s is %s."""
    return {f"%{argument}{letter}" for argument, letter in re.findall(r"%[!<>\d,]*(\{[^}]*\})?(\^?\w)", form)}


@rule("AS24-U1-000960", severity="high")
def supported(server: ApacheServer) -> Findings:
    """The server is one that is looked after."""
    if server.version < (2, 4):
        version = ".".join(map(str, server.version))
        yield ApacheFinding(
            str(server.conf), f"is for httpd {version}", "install httpd 2.4 of a release that is maintained"
        )
