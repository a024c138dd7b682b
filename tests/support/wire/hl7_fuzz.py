"""Random streams for HL7 engines, from a seed: parts of valid messages, delimiters, other bytes, and floods."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import dataclass

from tests.support.wire.hl7 import receiver
from tests.support.wire.instrument_cases import instrument_cases
from wire.standards.engine import Count, Deliver, Outcome, Send
from wire.standards.hl7 import Hl7Receiver

SPECIAL = [
    b"\x0b",
    b"\x1c",
    b"\r",
    b"\x1c\r",
    b"\n",
    b"\0",
    b"\x0bMSH",
    b"MSH|^~\\&|",
    b"|",
    b"^",
    b"~",
    b"\\",
    b"&",
    b'""',
]
FLOODS = [b"\x0b", b"\x1c", b"\x0bMS", b"\r", b"|", b"\\", b"x", b"EQU|", b"\xff"]


@dataclass
class Fuzzed:
    """The result of a run. `peak_bytes` is the peak memory without the piece just read, if memory is traced."""

    bytes: int = 0
    messages: int = 0
    peak_bytes: int = 0


def fuzz(seed: int, total: int) -> Fuzzed:
    """Feed engines with `total` bytes; every stream ends with a valid message that must be accepted."""
    choice, fuzzed = random.Random(seed), Fuzzed()
    cases = instrument_cases("hl7-mllp")
    while fuzzed.bytes < total:
        case = choice.choice(cases)
        if tracemalloc.is_tracing():
            tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        engine = receiver(case.port)
        for _ in range(choice.randrange(1, 40)):
            piece = _piece(choice, case.data)
            fuzzed.bytes += len(piece)
            feed(engine, piece, choice)
        ending = b"\x1c\r" + cases[0].pieces[0]
        assert feed(engine, ending, choice), "a valid message after garbage was not accepted"
        fuzzed.messages += 1
        engine.closed(0.0)
        peak = tracemalloc.get_traced_memory()[1] - before - 65_536
        fuzzed.peak_bytes = max(fuzzed.peak_bytes, peak)
    return fuzzed


def feed(engine: Hl7Receiver, piece: bytes, choice: random.Random) -> int:
    """Feed one piece, deciding at random; return the number of delivered messages."""
    delivered, actions = 0, engine.receive(piece, 0.0)
    while actions:
        assert all(isinstance(action, Send | Count | Deliver) for action in actions)
        if not isinstance(actions[-1], Deliver):
            break
        delivered += 1
        actions = engine.decided(choice.choice(list(Outcome)), 0.0)
    return delivered


def _piece(choice: random.Random, message: bytes) -> bytes:
    kind = choice.random()
    if kind < 0.02:
        return (choice.choice(FLOODS) * 65_536)[: choice.randrange(65_536)]
    if kind < 0.3:
        return choice.choice(SPECIAL) * choice.randrange(1, 4)
    if kind < 0.4:
        return choice.randbytes(choice.randrange(300))
    start = choice.randrange(len(message))
    piece = bytearray(message[start : start + choice.randrange(1, 2000)])
    for _ in range(choice.randrange(4)):
        piece[choice.randrange(len(piece))] = choice.randrange(256)
    return bytes(piece)
