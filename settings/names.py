# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Host name validation, by the rules of DNS and TLS (RFC 1123, 2.1; RFC 6125)."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

NAME_CHARACTERS_MAX: Final = 253
LABEL_CHARACTERS_MAX: Final = 63
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?")
_LABEL_WITH_UNDERSCORES: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")


def host_problem(host: str, *, underscores: bool = False) -> str:
    """Explain what is wrong with a host name or IP address, and the correction; "" if it is valid.

    With `underscores`, labels may contain them, as the names of Windows domain computers do.
    """
    try:
        ip_address(host)
        return ""
    except ValueError:
        return _name_problem(host, _LABEL_WITH_UNDERSCORES if underscores else _LABEL)


def _name_problem(host: str, label: re.Pattern[str]) -> str:
    if not host.isascii():
        return f"{host!r} has non-ASCII letters; give the name's ASCII form, which begins with xn--"
    if not host or len(host) > NAME_CHARACTERS_MAX:
        return f"a host name has 1 to {NAME_CHARACTERS_MAX} characters; this one has {len(host)}"
    if re.search(r"[\s/:@]", host):
        return f"{host!r} is not just a host name; remove scheme, port, path and spaces"
    if host.endswith("."):
        return f"{host!r} ends with a dot; remove it"
    return _labels_problem(host, label)


def _labels_problem(host: str, label: re.Pattern[str]) -> str:
    labels = host.split(".")
    if "" in labels:
        return f"{host!r} has an empty label: it begins with a dot or has two dots in a row"
    if longest := next((part for part in labels if len(part) > LABEL_CHARACTERS_MAX), ""):
        return f"label {longest!r} has {len(longest)} characters; the maximum is {LABEL_CHARACTERS_MAX}"
    if wrong := next((part for part in labels if not label.fullmatch(part)), ""):
        return f"{wrong!r} is not a valid host name label; use letters, digits, and hyphens between them"
    if labels[-1].isdigit():
        return f"{host!r} is neither a host name nor an IP address; an IPv4 address has four numbers from 0 to 255"
    return ""
