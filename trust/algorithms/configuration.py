"""Algorithms in configuration files and shell scripts: names in lines that are no comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from trust.algorithms.finding import Finding, algorithms_in

_COMMENT: Final = re.compile(r"^\s*[#;].*$|\s#\s.*$")
_SETTING: Final = re.compile(
    r"cipher|algorithm|kex|macs?\b|hostkey|digest|\bauth\b|protocol|groups|curve|ike|esp\b|hash|tls|ssl|pbkdf|"
    r"openssl|sum\b|signature|keygen|-t\b|newkey|sigalg|ssh-",
    re.IGNORECASE,
)
"""Lines about cryptography. Elsewhere a short word such as "des" is not an algorithm."""
WHEEL: Final = re.compile(r"(^|/)cryptography-[^/]+\.dist-info/WHEEL$")


def scan_configuration(file: str, text: str) -> Iterator[Finding]:
    """Yield the algorithms in a configuration file or a script."""
    if WHEEL.search(file):
        yield Finding(
            file, 0, "library", "the wheel of cryptography has an OpenSSL of its own; use the distribution's"
        )
        return
    for number, line in enumerate(text.splitlines(), 1):
        content = _COMMENT.sub("", line)
        if _SETTING.search(content):
            for algorithm, name in algorithms_in(content):
                yield Finding(file, number, algorithm, name)
