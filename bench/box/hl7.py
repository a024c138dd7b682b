"""HL7 over MLLP: speed, fuzzing, and conformance compared with python-hl7 and hl7apy: `python -m bench.box.hl7
[--json]`.

Speed is measured in processor time of one core: for the box's engine from bytes to findings and acknowledgement, and
for the libraries only parsing. Conformance: the recorded conversations of `tests/fixtures/instruments` are sent to
the engine, and over loopback to the MLLP servers of both libraries with their own acknowledgements. A case conforms
if all its acknowledgements are those in its script.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import hl7
import hl7.mllp
from hl7apy.mllp import AbstractErrorHandler, AbstractHandler, MLLPServer
from hl7apy.parser import parse_message

from bench.figures import Figure, figure, run
from tests.support.wire.hl7 import acknowledgements, receiver
from tests.support.wire.hl7_fuzz import fuzz
from tests.support.wire.instrument_cases import (
    InstrumentCase,
    Played,
    instrument_cases,
    play,
)
from tests.support.wire.noninterference import variants
from wire.standards.engine import Deliver, Outcome, Send
from wire.standards.mllp import frame

SECONDS = 0.6
FUZZED_BYTES = 10_000_000
NONINTERFERENCE_VARIANTS = 30_000
ANSWER_S = 1.0
CASES = {case.name: case for case in instrument_cases("hl7-mllp")}
STATUS = CASES["hl7-status-with-offset"]
QUALITY = CASES["hl7-qc-in-groups-with-placeholders"]


def per_second(action: Callable[[], object]) -> float:
    """Return how many times an action runs in a second of processor time: the maximum of three measurements."""
    rates = []
    for _ in range(3):
        began, count = time.process_time(), 0
        while (spent := time.process_time() - began) < SECONDS / 3:
            action()
            count += 1
        rates.append(count / spent)
    return max(rates)


def engine_action(case: InstrumentCase, message: bytes) -> Callable[[], object]:
    engine = receiver(case.port)

    def action() -> None:
        (delivered,) = engine.receive(message, 0.0)
        (sent,) = engine.decided(Outcome.STORED, 0.0)
        assert isinstance(delivered, Deliver) and isinstance(sent, Send)

    return action


def speed() -> list[Figure]:
    figures = []
    messages = (("ESU", STATUS, STATUS.pieces[0], ">= 20000"), ("QC ORU", QUALITY, QUALITY.data, ""))
    for name, case, message, target in messages:
        text = message[1:-2].decode("latin-1")
        size = f"{name} of {len(message)} bytes"
        figures += [
            figure(
                f"{size}: engine", "messages/s of a core", per_second(engine_action(case, message)), target
            ),
            figure(
                f"{size}: python-hl7, parsing",
                "messages/s of a core",
                per_second(partial(hl7.parse, text)),
            ),
            figure(
                f"{size}: hl7apy, parsing",
                "messages/s of a core",
                per_second(partial(parse_message, text, find_groups=False)),
            ),
        ]
    return figures


def fuzzing() -> list[Figure]:
    began = time.process_time()
    fuzzed = fuzz(seed=1, total=FUZZED_BYTES)
    spent = time.process_time() - began
    tracemalloc.start()
    traced = fuzz(seed=2, total=FUZZED_BYTES // 20)
    tracemalloc.stop()
    return [
        figure("fuzzed bytes without an exception", "bytes", fuzzed.bytes, f">= {FUZZED_BYTES}"),
        figure("  processor time", "µs/KiB", spent / fuzzed.bytes * 1024 * 1e6),
        figure("  most memory of a port", "KiB", traced.peak_bytes / 1024, "<= 256"),
    ]


def expected_acknowledgements(case: InstrumentCase) -> list[tuple[str, str, str]]:
    steps = (re.fullmatch(r'ack (\S+) (?:"(.*)"|(\S+)) (\S+)', step) for step in case.script)
    return [(step[1], step[2] or step[3], step[4]) for step in steps if step]


def engine_conforms(case: InstrumentCase) -> bool:
    divisions = [case.pieces, [bytes([byte]) for byte in case.data]]
    divisions += [[case.data[:split], case.data[split:]] for split in range(1, len(case.data))]
    return all(
        (played := play(receiver(case.port), pieces)).as_reports() == case.reports
        and played.audit() == case.audit
        and acknowledgements(played) == expected_acknowledgements(case)
        for pieces in divisions
    )


def server_conforms(port: int, case: InstrumentCase) -> bool:
    """Return whether a server on loopback sends the acknowledgements in the script of a case."""
    expected = expected_acknowledgements(case)
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as connection:
            for piece in case.pieces:
                connection.sendall(piece)
            while received.count(b"\x1c\r") < len(expected) and (data := connection.recv(65_536)):
                received += data
    except OSError:
        pass
    sent = [message + b"\x1c\r" for message in received.split(b"\x1c\r")[:-1]]
    try:
        return acknowledgements(Played(sent=sent)) == expected
    except (AssertionError, StopIteration, IndexError):
        return False


async def _acknowledge(reader: hl7.mllp.HL7StreamReader, writer: hl7.mllp.HL7StreamWriter) -> None:
    while not writer.is_closing():
        writer.writemessage((await reader.readmessage()).create_ack())
        await writer.drain()


def python_hl7_cases() -> int:
    """Return the number of cases to which the server of python-hl7 conforms, with its own acknowledgement."""

    async def serve() -> int:
        server = await hl7.mllp.start_hl7_server(_acknowledge, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        return sum([await asyncio.to_thread(server_conforms, port, case) for case in CASES.values()])

    return asyncio.run(serve())


class _Acknowledging(AbstractHandler):  # type: ignore[misc]
    def reply(self) -> str:
        message = parse_message(self.incoming_message, find_groups=False)
        return frame(str(hl7.parse(message.to_er7()).create_ack()).encode()).decode()


class _Refusing(AbstractErrorHandler):  # type: ignore[misc]
    def reply(self) -> str:
        return frame(b"MSH|^~\\&|||||||ACK||P|2.5.1\rMSA|AR|\r").decode()


def hl7apy_cases() -> int:
    """Return the number of cases to which the server of hl7apy conforms, with python-hl7's acknowledgement."""
    kinds = ("ESU^U01^ESU_U01", "ESU^U01", "INU^U05^INU_U05", "EAN^U09^EAN_U09", "ORU^R01", "OUL^R22^OUL_R22")
    handlers = {**dict.fromkeys(kinds, (_Acknowledging,)), "ERR": (_Refusing,)}
    server = MLLPServer("127.0.0.1", 0, handlers, timeout=ANSWER_S)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        return sum(server_conforms(server.server_address[1], case) for case in CASES.values())
    finally:
        server.shutdown()


def conformance() -> list[Figure]:
    name = f"of {len(CASES)} recorded conversations: "
    return [
        figure(
            f"{name}engine, every split point",
            "conforming",
            sum(map(engine_conforms, CASES.values())),
            f">= {len(CASES)}",
        ),
        figure(f"{name}python-hl7", "conforming", python_hl7_cases()),
        figure(f"{name}hl7apy", "conforming", hl7apy_cases()),
    ]


def noninterference() -> list[Figure]:
    """Return the figures of variants of patients' data that change the output of the box."""
    cases = [case for case in CASES.values() if case.patient_data]
    each = NONINTERFERENCE_VARIANTS // len(cases)
    differing = 0
    for case in cases:
        expected = play(receiver(case.port), [case.data])
        differing += sum(play(receiver(case.port), [v]) != expected for v in variants(case, each))
    return [
        figure("variants of the bytes of patients, operators and notes", "variants", each * len(cases)),
        figure("  that change reports, counts or replies", "variants", differing, "<= 0"),
    ]


def figures() -> list[Figure]:
    return speed() + conformance() + noninterference() + fuzzing()


if __name__ == "__main__":
    run(figures, __doc__)
