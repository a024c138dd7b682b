"""The access log and the error log."""

from __future__ import annotations

import re
from typing import Final

from imaging.check.apache.expect import is_loaded
from imaging.check.apache.httpd import ApacheServer, Directive
from imaging.check.apache.rule import ApacheFinding, Findings, rule

LOG_FIELDS: Final = ("%a", "%A", "%h", "%H", "%l", "%m", "%s", "%t", "%u", "%U", "%{Referer}i")


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
    yield from is_loaded(server, "log_config")
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
