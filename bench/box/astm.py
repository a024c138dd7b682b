"""ASTM: the share of a 9600-baud line that carries text, sessions a second, and fuzzing with random bytes.

The line is computed, not measured: each byte takes its time at 9600 baud, and sender and receiver are the engines.
Sessions are counted by processor time on one core.
"""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter
from decimal import Decimal
from typing import Final

from bench.figures import Figure, figure, run
from settings.adapted import AdaptedPort, Control, ControlTarget
from tests.support.wire.lis_fuzz import fuzz
from wire.standards.astm import AstmMessages, astm_engine
from wire.standards.astm_dialect import AstmDialect
from wire.standards.engine import Action, Deliver, Outcome, Send
from wire.standards.lis1.endpoint import Lis1Endpoint
from wire.standards.lis1.frames import ENQ, EOT, FrameStyle, frames_of

FUZZED_BYTES: Final = 10_000_000
BYTE_S: Final = 10 / 9600
"""The time of a byte in seconds: with 8N1, it has ten bits."""
LIMIT_BYTES_PER_S: Final = 929.0
"""The limit for text in frames of 247 bytes with stop-and-wait: 240 of 248 bytes, at 960 bytes a second."""
MESSAGE: Final = (
    b"H|\\^&|||CX900^1|||||host||P|1|20310304100000\rP|1\rO|1|NORM2||^^^798|R||||||Q\r"
    b"R|1|^^^798|5.18|mmol/l||N||F||||20310304095900\rL|1|N\r"
)
PORT: Final = AdaptedPort(
    tests={"798": "glu"},
    controls={"NORM2": Control(2, {"glu": ControlTarget(Decimal("5.00"), Decimal("0.08"))})},
)


def text_bytes_per_s() -> float:
    """Return the bytes of text per second of line time in one long session."""
    message = b"H|\\^&\r" + b"M|1|" + b"A" * 100_000 + b"\rL|1|N\r"
    ends = {
        name: Lis1Endpoint(AstmMessages(PORT, AstmDialect()), AstmDialect(), instrument=name == "instrument")
        for name in ("instrument", "host")
    }
    now = 0.0
    flows = [
        ("instrument", ends["instrument"].send(frames_of(message, FrameStyle(record_per_frame=False)), now))
    ]
    while flows:
        name, actions = flows.pop(0)
        other = "host" if name == "instrument" else "instrument"
        for action in actions:
            if isinstance(action, Send):
                for byte in action.data:
                    now += BYTE_S
                    flows.append((other, ends[other].receive(bytes([byte]), now)))
            elif isinstance(action, Deliver):
                flows.append((name, ends[name].decided(Outcome.STORED, now)))
    assert ends["instrument"].waiting == 0
    return len(message) / now


def sessions_per_s(sessions: int = 5000) -> float:
    """Return how many sessions of one message with one control result run in a second of processor time."""
    data = b"".join([ENQ, *frames_of(MESSAGE, FrameStyle()), EOT])
    engine, counts = astm_engine(PORT), Counter[str]()
    began = time.process_time()
    for _ in range(sessions):
        actions: list[Action] = engine.receive(data, 0.0)
        while actions and isinstance(last := actions[-1], Deliver):
            counts["findings"] += len(last.extract.findings)
            actions = engine.decided(Outcome.STORED, 0.0)
    assert counts["findings"] == sessions
    return sessions / (time.process_time() - began)


def fuzzing(standard: str) -> list[Figure]:
    """Return the figures of random streams: bytes without an exception, processor time, and memory of a port."""
    began = time.process_time()
    fuzzed = fuzz(standard, 1, FUZZED_BYTES)
    spent = time.process_time() - began
    tracemalloc.start()
    traced = fuzz(standard, 2, FUZZED_BYTES // 20)
    tracemalloc.stop()
    return [
        figure(f"{standard}: fuzzed bytes without an exception", "bytes", fuzzed.bytes, f">= {FUZZED_BYTES}"),
        figure("  processor time", "µs/KiB", spent / fuzzed.bytes * 1024 * 1e6),
        figure("  most memory of a port", "KiB", traced.peak_bytes / 1024, "<= 256"),
    ]


def figures() -> list[Figure]:
    """Return all figures of ASTM and Beckman AU."""
    text = text_bytes_per_s()
    return [
        *fuzzing("astm"),
        *fuzzing("au"),
        figure("text at 9600 baud, frames of 247 bytes (line time)", "B/s", text),
        figure("of the limit of stop and wait, 929 B/s", "", text / LIMIT_BYTES_PER_S, ">= 0.97"),
        figure(
            "sessions of 5 frames with one control result", "sessions/s of CPU", sessions_per_s(), ">= 20000"
        ),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
