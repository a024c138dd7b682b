"""Running the conversations of RFB on given bytes."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from wire.desktop.rfb import RECEIVE_BYTES_MAX, Conversation

T = TypeVar("T")


class EndOfBytesError(Exception):
    """The conversation asks for more bytes than there are."""


def converse(conversation: Conversation[T], received: bytes) -> tuple[T, bytes]:
    """Run a conversation; return its result and what it sent. All received bytes must be used."""
    found = converse_first(conversation, received)
    assert not found.rest, f"not used: {found.rest!r}"
    return found.result, found.sent


class Ended(NamedTuple, Generic[T]):
    """The end of a conversation."""

    result: T
    sent: bytes
    rest: bytes


def converse_first(conversation: Conversation[T], received: bytes) -> Ended[T]:
    """Run a conversation; return also the bytes that it did not request."""
    sent, part = b"", b""
    step = next(conversation)
    try:
        while True:
            if isinstance(step, bytes):
                sent, part = sent + step, b""
            else:
                assert 0 < step <= RECEIVE_BYTES_MAX, f"asks for {step} bytes"
                if step > len(received):
                    raise EndOfBytesError
                part, received = received[:step], received[step:]
            step = conversation.send(part)
    except StopIteration as stop:
        return Ended(stop.value, sent, received)
