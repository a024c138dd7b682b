"""Parsing of the lines of OpenVPN's management interface, split into packets at any byte."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.openvpn.management import (
    ENVIRONMENT_MAX,
    LINE_BYTES_MAX,
    CertificateRequest,
    ClientLost,
    ClientRequest,
    Event,
    Failed,
    Hold,
    ManagementError,
    ManagementReader,
    SignatureRequest,
    State,
    certificate,
    deny,
    permit,
    signature,
)

OUTPUT = (
    b">INFO:OpenVPN Management Interface Version 5 -- type 'help' for more info\r\n"
    b">HOLD:Waiting for hold release:0\r\n"
    b"SUCCESS: hold release succeeded\r\n"
    b">NEED-CERTIFICATE:S-0001\r\n"
    b">STATE:1795986962,TCP_CONNECT,,,,,,\r\n"
    b">PK_SIGN:AAEC,ECDSA\r\n"
    b">CLIENT:CONNECT,3,7\r\n"
    b">CLIENT:ENV,common_name=S-0001\r\n"
    b">CLIENT:ENV,tls_id_0=CN=S-0001\r\n"
    b">CLIENT:ENV,END\r\n"
    b">STATE:1795986963,EXITING,connection-reset,,,,,\r\n"
    b">CLIENT:DISCONNECT,3\r\n"
    b">CLIENT:ENV,END\r\n"
    b"ERROR: command failed\r\n"
    b">FATAL:Cannot open TUN\r\n"
)
EVENTS: list[Event] = [
    Hold(),
    CertificateRequest(),
    State("TCP_CONNECT", ""),
    SignatureRequest(b"\0\1\2", "ECDSA"),
    ClientRequest(3, 7, {"common_name": "S-0001", "tls_id_0": "CN=S-0001"}),
    State("EXITING", "connection-reset"),
    ClientLost(3, {}),
    Failed("command failed"),
    Failed("Cannot open TUN"),
]


@given(st.lists(st.integers(0, len(OUTPUT)), max_size=8))
def test_lines_become_events_in_pieces_of_any_size(cuts: list[int]) -> None:
    reader, events = ManagementReader(), list[Event]()
    ends = sorted({0, *cuts, len(OUTPUT)})
    for first, end in pairwise(ends):
        events += reader.feed(OUTPUT[first:end])
    assert events == EVENTS


@pytest.mark.parametrize(
    ("received", "message"),
    [
        (b"x" * (LINE_BYTES_MAX + 1), "a line is longer than 16384 bytes"),
        (b"x" * (LINE_BYTES_MAX + 1) + b"\n", "a line is longer than 16384 bytes"),
        (b">PK_SIGN:#,ECDSA\n", "the data that the program requests to sign is not base64"),
        (b">CLIENT:CONNECT,x,1\n", "a client without a number: 'CONNECT,x,1'"),
        (
            b">CLIENT:CONNECT,0,1\n"
            + b"".join(b">CLIENT:ENV,v%d=\n" % n for n in range(ENVIRONMENT_MAX + 1)),
            "a client has more than 256 variables",
        ),
    ],
)
def test_output_that_violates_the_protocol_is_an_error(received: bytes, message: str) -> None:
    with pytest.raises(ManagementError) as raised:
        ManagementReader().feed(received)
    assert str(raised.value) == message


@given(st.binary(max_size=300))
def test_any_bytes_are_events_or_an_error(received: bytes) -> None:
    try:
        ManagementReader().feed(received)
    except ManagementError as error:
        assert str(error)


def test_answers_have_the_form_that_openvpn_reads() -> None:
    request = ClientRequest(3, 7, {})
    assert certificate("-----BEGIN\nAA\n-----END\n") == b"certificate\n-----BEGIN\nAA\n-----END\nEND\n"
    assert signature(b"\0\1\2") == b"pk-sig\nAAEC\nEND\n"
    assert permit(request, "iroute 10.0.0.1") == b"client-auth 3 7\niroute 10.0.0.1\nEND\n"
    assert permit(request) == b"client-auth 3 7\nEND\n"
    assert deny(request, 'no "such"\nclient') == b'client-deny 3 7 "no suchclient"\n'
