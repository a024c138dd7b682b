"""Sessions, timeouts, and information in responses."""

from __future__ import annotations

import re
from typing import Final

from imaging.check.apache.expect import has_number, has_value, is_loaded, location_of
from imaging.check.apache.httpd import ApacheServer
from imaging.check.apache.rule import ApacheFinding, Findings, rule

TIMEOUT_SECONDS_MAX: Final = 60
KEEP_ALIVE_REQUESTS_MIN: Final = 100
SESSION_SECONDS_MAX: Final = 600
ERRORS: Final = ("400", "401", "403", "404", "405", "500")


@rule("AS24-U1-000470", "AS24-U1-000870", "AS24-U2-000470", "AS24-U2-000890")
def cookies(server: ApacheServer) -> Findings:
    """Cookies have the attributes Secure and HttpOnly."""
    edits = [
        one for one in server.named("header") if "edit" in one.arguments and "Set-Cookie" in one.arguments
    ]
    if not any(
        {"httponly", "secure"} <= set(re.findall(r"\w+", " ".join(one.arguments).lower())) for one in edits
    ):
        repair = 'write Header always edit Set-Cookie ^(.*)$ "$1; HttpOnly; Secure"'
        yield ApacheFinding(
            location_of(server, edits[0] if edits else None),
            "cookies are not made HttpOnly and Secure",
            repair,
        )


@rule("AS24-U1-000460", "AS24-U2-000650")
def session_ends(server: ApacheServer) -> Findings:
    """Sessions, if used, end after ten minutes."""
    if "session" in server.modules:
        yield from has_number(server, "SessionMaxAge", 1, SESSION_SECONDS_MAX)


@rule("AS24-U1-000510")
def session_secret(server: ApacheServer) -> Findings:
    """Session identifiers, if used, cannot be guessed."""
    if "session" in server.modules:
        yield from is_loaded(server, "session_crypto")


@rule("AS24-U1-000520", severity="high")
def unique_requests(server: ApacheServer) -> Findings:
    """Each request has a unique identifier."""
    yield from is_loaded(server, "unique_id")


@rule("AS24-U1-000010")
def connections(server: ApacheServer) -> Findings:
    """Connections are kept alive, for at least a hundred requests."""
    yield from has_value(server, "KeepAlive", ("on",), "On")
    yield from has_number(server, "MaxKeepAliveRequests", KEEP_ALIVE_REQUESTS_MIN, 10_000)


@rule("AS24-U1-000590", "AS24-U2-000590")
def timeout(server: ApacheServer) -> Findings:
    """Idle connections are closed after at most a minute."""
    yield from has_number(server, "Timeout", 1, TIMEOUT_SECONDS_MAX)


@rule("AS24-U1-000650", "AS24-U2-000660")
def slow_requests(server: ApacheServer) -> Findings:
    """Slow requests are ended."""
    yield from is_loaded(server, "reqtimeout")
    directives = server.named("requestreadtimeout")
    if not any(
        any(w.startswith("header=") for w in one.arguments)
        and any(w.startswith("body=") for w in one.arguments)
        for one in directives
    ):
        repair = "write RequestReadTimeout header=10-20,MinRate=500 body=10,MinRate=500"
        yield ApacheFinding(
            location_of(server, directives[0] if directives else None),
            "headers and bodies have no time limit",
            repair,
        )


@rule("AS24-U1-000620", "AS24-U2-000630")
def no_disclosure(server: ApacheServer) -> Findings:
    """Responses do not disclose the server software, and error pages are the box's own."""
    yield from has_value(server, "ServerTokens", ("prod", "productonly"), "Prod")
    yield from has_value(server, "ServerSignature", ("off",), "Off")
    pages = {one.arguments[0] for one in server.named("errordocument") if not one.inside}
    if missing := [code for code in ERRORS if code not in pages]:
        yield ApacheFinding(
            str(server.conf), f"has no ErrorDocument for {', '.join(missing)}", "write one for each"
        )


@rule("AS24-U1-000630", "AS24-U2-000640")
def no_debugging(server: ApacheServer) -> Findings:
    """Debugging features are disabled (TRACE, debug logs)."""
    yield from has_value(server, "TraceEnable", ("off",), "Off")
    for one in server.named("loglevel"):
        if any(re.search(r"(?:^|:)(?:debug|trace\d)$", word.lower()) for word in one.arguments):
            yield ApacheFinding(one.location, f"LogLevel {' '.join(one.arguments)}", "write LogLevel info")
