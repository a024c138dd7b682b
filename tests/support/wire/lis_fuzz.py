"""Random streams for engines of ASTM and Beckman AU: parts of valid conversations, control characters, floods."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

from agents.box.intake.adapter import READ_BYTES_MAX
from settings.adapted import AdaptedPort
from tests.support.wire.instrument_cases import instrument_cases
from wire.standards.astm import astm_engine
from wire.standards.au import AuEngine
from wire.standards.engine import Deliver, Engine, Outcome

SPECIAL = [bytes([byte]) for byte in (0, 2, 3, 4, 5, 6, 0x11, 0x13, 0x15, 0x17)]
SPECIAL += [b"\r", b"\n", b"\r\n", b"|", b"^", b"\\", b"&", b"H|\\^&\r", b"L|1|N\r", b"\x021", b"\x03AB\r\n"]
FLOODS = [*SPECIAL, b"x", b"R|1|", b"\xff", b"\x021R|1\r\x03"]


@dataclass
class LisFuzzed:
    """The result of a run. `peak_bytes` is the peak memory without the piece just read, if memory is traced."""

    bytes: int = 0
    conversations: int = 0
    peak_bytes: int = 0


def fuzz(standard: str, seed: int, total: int) -> LisFuzzed:
    """Feed engines of "astm" or "au" with `total` bytes; after each stream a valid conversation must be accepted."""
    make: Callable[[AdaptedPort], Engine] = AuEngine if standard == "au" else astm_engine
    names = ("au-serial",) if standard == "au" else ("astm-tcp", "astm-serial")
    choice, fuzzed = random.Random(seed), LisFuzzed()
    cases = [
        case for case in instrument_cases(*names) if feed(make(case.port), case.data, lambda: Outcome.STORED)
    ]
    assert cases
    while fuzzed.bytes < total:
        case = choice.choice(cases)
        if tracemalloc.is_tracing():
            tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        engine = make(case.port)
        for _ in range(choice.randrange(1, 40)):
            piece = _piece(choice, case.data)
            fuzzed.bytes += len(piece)
            feed(engine, piece, lambda: choice.choice(list(Outcome)))
            if engine.deadline is not None and choice.random() < 0.05:
                engine.expired(engine.deadline)
        engine.closed(0.0)
        assert feed(engine, case.data, lambda: Outcome.STORED), "a valid conversation was not accepted"
        fuzzed.conversations += 1
        peak = tracemalloc.get_traced_memory()[1] - before - 65_536
        fuzzed.peak_bytes = max(fuzzed.peak_bytes, peak)
    return fuzzed


def feed(engine: Engine, piece: bytes, decide: Callable[[], Outcome]) -> int:
    """Feed one piece, in parts as the box reads it; return the number of delivered messages."""
    delivered = 0
    for start in range(0, len(piece), READ_BYTES_MAX):
        actions = engine.receive(piece[start : start + READ_BYTES_MAX], 0.0)
        while actions and isinstance(actions[-1], Deliver):
            delivered += 1
            actions = engine.decided(decide(), 0.0)
    return delivered


def _piece(choice: random.Random, conversation: bytes) -> bytes:
    kind = choice.random()
    if kind < 0.02:
        unit = choice.choice(FLOODS)
        return unit * (choice.randrange(65_536) // len(unit) + 1)
    if kind < 0.3:
        return choice.choice(SPECIAL) * choice.randrange(1, 4)
    if kind < 0.4:
        return choice.randbytes(choice.randrange(300))
    start = choice.randrange(len(conversation))
    piece = bytearray(conversation[start : start + choice.randrange(1, 2000)])
    for _ in range(choice.randrange(4)):
        piece[choice.randrange(len(piece))] = choice.randrange(256)
    return bytes(piece)
