"""The access log and the error log."""

from __future__ import annotations

import re
from typing import Final

from imaging.check.apache.expect import is_loaded
from imaging.check.apache.httpd import ApacheServer, Directive
from imaging.check.apache.rule import ApacheFinding, Findings, rule

LOG_FIELDS: Final = ("%a", "%A", "%h", "%H", "%l", "%m", "%s", "%t", "%u", "%U", "%{Referer}i")


@rule("AS24-U1-000065")
def requests_logged(server: ApacheServer) -> Findings:
    """Requests and errors are logged, including those of virtual hosts with separate logs."""
    for name in ("CustomLog", "ErrorLog"):
        if server.general(name.lower()) is None:
            yield ApacheFinding(str(server.conf), f"has no {name} outside of sections", f"write {name}")
    for one in server.named("customlog"):
        if any(word.startswith(("env=", "expr=")) for word in one.arguments[2:]):
            yield ApacheFinding(
                one.location, f"CustomLog omits some requests ({one.arguments[-1]})", "log all requests"
            )


@rule("AS24-U1-000070", "AS24-U2-000090")
def complete_log_entries(server: ApacheServer) -> Findings:
    """Log entries contain client, user, request, time and status."""
    yield from is_loaded(server, "log_config")
    for one, form in _formats(server):
        if missing := [field for field in LOG_FIELDS if field not in _fields(form)]:
            yield ApacheFinding(
                one.location, f"{' '.join(missing)} is not logged", f"write all of {' '.join(LOG_FIELDS)}"
            )


@rule("AS24-U1-000750")
def log_entries_have_times(server: ApacheServer) -> Findings:
    """Log entries contain the time to the second with its time zone."""
    for one, form in _formats(server):
        if "%t" not in _fields(form):
            yield ApacheFinding(one.location, "the time is not logged with its zone", "write %t")


def _formats(server: ApacheServer) -> list[tuple[Directive, str]]:
    """Return the format of each CustomLog; without a format or with an unknown one, the Common Log Format."""
    common = '%h %l %u %t "%r" %>s %b'
    named = {
        one.arguments[1]: one.arguments[0] for one in server.named("logformat") if len(one.arguments) > 1
    }
    used = [
        (one, one.arguments[1] if len(one.arguments) > 1 else "")
        for one in server.named("customlog", "transferlog")
    ]
    return [(one, named.get(form, form if "%" in form else common)) for one, form in used]


def _fields(form: str) -> set[str]:
    """Return the fields of a format without modifiers: %>s becomes %s."""
    return {f"%{argument}{letter}" for argument, letter in re.findall(r"%[!<>\d,]*(\{[^}]*\})?(\^?\w)", form)}
