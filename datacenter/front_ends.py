"""Determines which box sent a request: the client, or the box named by a front end that terminates TLS."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from typing import Final

from wire.http.connection import Request

BOX_HEADER: Final = "rap-box"
"""The header in which a front end passes the box's serial number. It must replace this header in boxes' requests."""
CERTIFICATE_HEADER: Final = "rap-box-certificate"
"""The header in which a front end passes the box's certificate: DER in base64."""


def box_of(request: Request, front_ends: Collection[str]) -> str:
    """Return the serial number of the box that sent the request; `front_ends` are the names in their certificates."""
    name = request.peer.name
    return request.headers.get(BOX_HEADER, "") if name in front_ends else name


def certificate_of(request: Request, *, is_from_front_end: bool) -> bytes | None:
    """Return the certificate (DER) of the box that sent a request; None without one."""
    if not is_from_front_end:
        tls = request.peer.tls
        return tls.getpeercert(binary_form=True) if tls is not None else None
    try:
        return base64.b64decode(request.headers.get(CERTIFICATE_HEADER, ""), validate=True) or None
    except binascii.Error:
        return None
