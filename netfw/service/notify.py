# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Notifications to systemd (sd_notify(3)), by datagram to the socket in NOTIFY_SOCKET; without it, no effect."""

from __future__ import annotations

import contextlib
import os
import socket


def ready() -> None:
    """Notify that the service has started."""
    _send(b"READY=1")


def alive() -> None:
    """Notify that the service's event loop runs (WatchdogSec=)."""
    _send(b"WATCHDOG=1")


def _send(message: bytes) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, contextlib.suppress(OSError):
        sender.sendto(message, address)
