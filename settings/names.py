# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Host names as DNS and TLS take them (RFC 1123, 2.1; RFC 6125)."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

NAME_CHARACTERS_MAX: Final = 253
LABEL_CHARACTERS_MAX: Final = 63
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?")
_LABEL_OF_A_PROXY: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")


def host_problem(host: str, *, underscores: bool = False) -> str:
    """What is wrong with a host's name or address, and what would be right; "" if nothing is.

    With `underscores` a label may have them, as names of computers in a Windows domain do.
    """
    try:
        ip_address(host)
        return ""
    except ValueError:
        return _name_problem(host, _LABEL_OF_A_PROXY if underscores else _LABEL)


def _name_problem(host: str, label: re.Pattern[str]) -> str:
    if not host.isascii():
        return f"{host!r} has letters beyond ASCII; give the name's ASCII form, which begins with xn--"
    if not host or len(host) > NAME_CHARACTERS_MAX:
        return f"a name has 1 to {NAME_CHARACTERS_MAX} characters; this one has {len(host)}"
    if re.search(r"[\s/:@]", host):
        return f"{host!r} is more than a name; give the host without scheme, port, path or spaces"
    if host.endswith("."):
        return f"{host!r} ends with a dot; leave it out"
    return _labels_problem(host, label)


def _labels_problem(host: str, label: re.Pattern[str]) -> str:
    labels = host.split(".")
    if "" in labels:
        return f"{host!r} has two dots in a row or begins with one; something is missing there"
    if longest := next((part for part in labels if len(part) > LABEL_CHARACTERS_MAX), ""):
        return f"{longest!r} has {len(longest)} characters; between dots there are at most {LABEL_CHARACTERS_MAX}"
    if wrong := next((part for part in labels if not label.fullmatch(part)), ""):
        return f"{wrong!r} is no part of a name; use letters, digits, and hyphens between them"
    if labels[-1].isdigit():
        return f"{host!r} is neither a name nor an address; an IPv4 address has four numbers from 0 to 255"
    return ""
