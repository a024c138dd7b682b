"""HL7 engines at a fixed time, and the content of their acknowledgements."""

from __future__ import annotations

from typing import Any

from settings.adapted import AdaptedPort
from tests.support.wire.instrument_cases import Played, port_of
from wire.standards.hl7 import Hl7Receiver

NOW_MS = 1_930_390_200_000
MSH = "MSH|^~\\&|I400||Host||20310304123000||{kind}|{id}|P|2.5.1"


def receiver(port: AdaptedPort | None = None, **config: Any) -> Hl7Receiver:
    """Return a receiver with the settings of a port, or with those of a table."""
    return Hl7Receiver(port or port_of({"timezone": "+01:00", **config}), lambda: NOW_MS)


def block(*segments: str | bytes, end: bytes = b"\r") -> bytes:
    """Return a framed message."""
    lines = [line.encode() if isinstance(line, str) else line for line in segments]
    return b"\x0b" + b"".join(line + end for line in lines) + b"\x1c\r"


def status_message(message_id: str = "1", state: str = "ID") -> bytes:
    """Return an equipment status update."""
    return block(MSH.format(kind="ESU^U01", id=message_id), f"EQU|I400^9|20310304123000|{state}")


def acknowledgements(played: Played) -> list[tuple[str, str, str]]:
    """Return MSA-1, MSA-2 and MSH-9.2 of each acknowledgement; each is one framed message."""
    return [_acknowledgement(sent) for sent in played.sent]


def _acknowledgement(sent: bytes) -> tuple[str, str, str]:
    assert sent.startswith(b"\x0bMSH") and sent.endswith(b"\r\x1c\r")
    segments = [line.split(sent[4:5].decode()) for line in sent[1:-2].decode("latin-1").split("\r") if line]
    msa = next(segment for segment in segments if segment[0] == "MSA")
    kind = segments[0][8].split(segments[0][1][0])
    assert kind[0] == "ACK"
    return msa[1], msa[2] or "-", kind[1] if len(kind) > 1 else ""
