"""Messages of the firewall service are reassembled from any pieces, and refused if they are too large."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netfw.events import Alarm, FirewallState, Repair
from netfw.service.protocol import (
    LINE_CHARACTERS_MAX,
    LINES_MAX,
    REQUEST_BYTES_MAX,
    VERSION,
    FirewallProtocolError,
    Frames,
    Hello,
    bounded,
    decoded,
    framed,
    length,
)


@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(1, 60))
def test_messages_are_reassembled_from_any_pieces(bodies: list[bytes], size: int) -> None:
    data = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    frames = Frames(50)
    pieces = [data[offset : offset + size] for offset in range(0, len(data), size)]
    assert [body for piece in pieces for body in frames.feed(piece)] == bodies


def test_an_invalid_length_is_refused_before_its_message_arrives() -> None:
    largest = bytes(REQUEST_BYTES_MAX)
    assert list(Frames(REQUEST_BYTES_MAX).feed(len(largest).to_bytes(4, "big") + largest)) == [largest]
    with pytest.raises(FirewallProtocolError, match=r"1025 bytes was announced; at most 1024"):
        list(Frames(REQUEST_BYTES_MAX).feed((REQUEST_BYTES_MAX + 1).to_bytes(4, "big")))


def test_events_round_trip() -> None:
    for event in (
        Alarm(7, "nft"),
        Repair(("a",), in_force=True),
        FirewallState(in_force=False, problem="why"),
    ):
        message = framed(event)
        assert length(message[:4], 1000) == len(message) - 4
        assert decoded(message[4:]) == event


@pytest.mark.parametrize("body", [b"", b"\xff", msgspec.msgpack.encode(["alarm"]), framed(Hello())[4:]])
def test_an_invalid_message_of_the_service_is_refused(body: bytes) -> None:
    with pytest.raises(FirewallProtocolError, match="cannot be read"):
        decoded(body)


def test_the_hello_message_has_the_same_form_in_every_version() -> None:
    assert msgspec.msgpack.decode(framed(Hello())[4:]) == {"type": "hello", "version": VERSION}


def test_the_number_of_lines_in_a_message_is_limited() -> None:
    short = FirewallState(in_force=True, not_covered=("a",))
    assert bounded(short) == short
    cut = bounded(Repair(tuple("x" * 5000 for _ in range(LINES_MAX + 3)), in_force=True))
    assert isinstance(cut, Repair)
    assert len(cut.differences) == LINES_MAX
    assert cut.differences[-1] == "and 4 more"
    assert len(cut.differences[0]) == LINE_CHARACTERS_MAX
