"""Bytes that instruments send between messages."""

from __future__ import annotations

from random import Random

from sim.instruments.speaking.content import PatientResults, SpokenMessage, Statement


def log_line(statement: Statement) -> str:
    """The line of an instrument's log about a message."""
    if isinstance(statement, PatientResults):
        return f"*** results of {statement.patient.family}, {statement.patient.sample} ***\r\n"
    return f"[{statement.kind.__name__} sent]\r\n"


def litter(dialect: frozenset[str], random: Random, message: SpokenMessage) -> bytes:
    """What precedes a message in this dialect."""
    nul = bytes(random.randrange(1, 9)) if "nul-between-messages" in dialect else b""
    return nul + (message.log if "log-between-messages" in dialect else b"")
