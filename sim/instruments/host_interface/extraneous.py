"""Extraneous bytes that instruments send between messages: NUL bytes and log lines."""

from __future__ import annotations

from random import Random

from sim.instruments.host_interface.content import HostMessage, MessageContent, PatientResults


def log_line(content: MessageContent) -> str:
    """Return the line of the instrument's log about a message."""
    if isinstance(content, PatientResults):
        return f"*** results of {content.patient.family}, {content.patient.sample} ***\r\n"
    return f"[{content.kind.__name__} sent]\r\n"


def extraneous_bytes(dialect: frozenset[str], random: Random, message: HostMessage) -> bytes:
    """Return the bytes that precede a message in this dialect."""
    nul = bytes(random.randrange(1, 9)) if "nul-between-messages" in dialect else b""
    return nul + (message.log if "log-between-messages" in dialect else b"")
