"""Sends one message with Apprise: a program, which can be ended at a time limit and has its own HTTP proxy setting.

It reads a `NoticeTask` in JSON from its standard input, so that the URL, which may contain a password, is in no list
of processes. Exit status: 0 sent, 1 not sent.
"""

from __future__ import annotations

import logging
import os
import sys

import msgspec


class NoticeTask(msgspec.Struct, frozen=True):
    """A message and its target. `proxy` is the URL of an HTTP proxy, or empty."""

    url: str
    title: str
    body: str
    proxy: str = ""
    reply_seconds: float = 60.0
    """Longer than the time limit of the program: a response that is late must not count as a failure."""


def main() -> int:
    """Send, and return the exit status."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=NoticeTask)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "no_proxy"):
        os.environ.pop(name, None)
    if task.proxy:
        os.environ["http_proxy"] = os.environ["https_proxy"] = task.proxy
    from apprise import Apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its messages contain URLs
    service = Apprise.instantiate(task.url, suppress_exceptions=True)
    if service is None:
        return 1
    service.socket_read_timeout = task.reply_seconds
    return 0 if service.notify(body=task.body, title=task.title) else 1


if __name__ == "__main__":
    sys.exit(main())
