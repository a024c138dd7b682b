"""The web server of the local page: where it listens, TLS, modules and headers, from its configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from trust.fact import Fact, fact, settings_lines
from trust.machine import ExaminedBox

MAIN: Final = "/etc/httpd/conf/rap.conf"
LISTEN: Final = "/etc/httpd/conf/rap-listen.conf"
SINGLE: Final = {
    "sslprotocol": "web.tls-versions",
    "sslciphersuite": "web.ciphers",
    "loadmodule": "web.modules",
    "header": "web.headers",
    "proxypass": "web.passes-to",
    "sslcertificatefile": "web.certificate",
    "traceenable": "web.trace",
    "user": "web.user",
    "customlog": "web.log",
}


def facts(machine: ExaminedBox) -> Iterator[Fact]:
    """Yield the settings; a directive that is repeated has several values."""
    main = machine.file(MAIN)
    if main is not None:
        directives: dict[str, list[str]] = {}
        for line in settings_lines(main.text):
            name, _, value = line.partition(" ")
            directives.setdefault(name.lower(), []).append(value)
        for directive, key in SINGLE.items():
            yield fact(key, directives.get(directive, []), main)
    if listen := machine.file(LISTEN):
        lines = [line for line in settings_lines(listen.text) if line.startswith("Listen ")]
        yield fact("web.listens", [line.removeprefix("Listen ") for line in lines], listen)
        permitted = re.findall(r"Require ip (\S+)", listen.text)
        yield fact("web.clients", permitted, listen)
