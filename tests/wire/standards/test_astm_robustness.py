"""Arbitrary bytes on the line: no exception, bounded memory, and a number of calls linear in the bytes."""

import sys
import tracemalloc
from random import Random

import pytest

from tests.support.wire.astm import CONFIG, CONTROL, HEADER, RESULT, session
from tests.support.wire.instrument_cases import InstrumentCase, instrument_cases, play, port_of
from wire.standards.astm import astm_engine, astm_observer
from wire.standards.au import AuEngine
from wire.standards.engine import Deliver, Engine, Outcome
from wire.standards.lis1.frames import ACK, ENQ, TEXT_BYTES_MAX, FrameStyle, frames_of

CASES = instrument_cases("astm-tcp", "astm-serial", "au-serial")
CONTROLS = b"\x02\x03\x04\x05\x06\x15\x17\r\n\x00|\\^&HPORCQLM0123456789"
LONG = FrameStyle(TEXT_BYTES_MAX, record_per_frame=False)


def mutated(data: bytes, random: Random) -> bytes:
    """Return the data with some bytes changed, left out, repeated or inserted."""
    result = bytearray(data)
    for _ in range(random.randint(1, 8)):
        start = random.randrange(len(result) + 1)
        length = random.choice((0, 1, 1, 2, 40))
        result[start : start + length] = random.choice(
            (
                b"",
                bytes(random.choices(CONTROLS, k=3)),
                random.randbytes(2),
                bytes(result[start : start + 80]),
            )
        )
    return bytes(result)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_damaged_conversations_raise_nothing(case: InstrumentCase) -> None:
    random = Random(case.name)
    make = AuEngine if case.standard == "au-serial" else astm_engine
    for _ in range(150):
        data = mutated(case.data, random)
        cut = random.randrange(len(data) + 1)
        play(make(case.port), [data[:cut], data[cut:]], lambda _: random.choice(list(Outcome)))


def test_random_control_characters_raise_nothing() -> None:
    random = Random(1)
    engine, observer = astm_engine(port_of(CONFIG)), astm_observer(port_of(CONFIG))
    for step in range(500):
        data = bytes(random.choices(CONTROLS, k=random.randint(1, 60)))
        actions = engine.receive(data, step)
        while actions and isinstance(actions[-1], Deliver):
            actions = engine.decided(random.choice(list(Outcome)), step)
        actions = random.choice((observer.from_instrument, observer.from_host))(data, step)
        while actions and isinstance(actions[-1], Deliver):
            actions = observer.decided(random.choice(list(Outcome)), step)
        if engine.deadline is not None and random.random() < 0.1:
            engine.expired(engine.deadline)


def largest_frames(kind: str) -> bytes:
    """Return frames of a kind that needs much memory."""
    records = {
        "findings": [HEADER, CONTROL, *[RESULT] * 2000],
        "long record": [HEADER, "R|1|^^^798|" + "9" * 200_000],
        "alarms": [HEADER, *["C|1|I|27|I"] * 20_000],
        "fields": [HEADER, "O" + "|" * 200_000],
        "messages": [HEADER, CONTROL, RESULT, "L|1|N"] * 2000,
    }[kind]
    return session(*records, style=LONG)


@pytest.mark.parametrize("kind", ["findings", "long record", "alarms", "fields", "messages"])
@pytest.mark.parametrize("busy", [True, False])
def test_an_engine_keeps_at_most_256_kib(kind: str, busy: bool) -> None:
    data, engine = largest_frames(kind), astm_engine(port_of(CONFIG))
    outcomes = [Outcome.BUSY, Outcome.STORED] if busy else [Outcome.STORED]
    pieces = [data[start : start + 4096] for start in range(0, len(data), 4096)]
    tracemalloc.start()
    for piece in pieces:
        actions = engine.receive(piece, 0)
        while actions and isinstance(actions[-1], Deliver):
            actions = engine.decided(outcomes[0], 0)
        del actions
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 256 * 1024


UNITS = {
    "frames": b"".join(frames_of(b"R|1\r" * 8, FrameStyle())),
    "enquiries": ENQ,
    "starts": b"\x02",
    "one frame": b"x",
    "messages": session(HEADER, CONTROL, RESULT, "L|1|N"),
    "litter": b"?\r\n",
    "answers": ACK + b"?",
}


def count_calls(engine: Engine, data: bytes) -> int:
    """Return the number of functions that an engine calls, built-in ones included."""
    number = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        play(engine, [data])
    finally:
        sys.setprofile(None)
    return number


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_the_work_is_proportional_to_the_bytes(unit: bytes) -> None:
    single = ENQ + b"\x02" * (unit == b"x") + unit * (6000 // len(unit))
    first, double = (
        count_calls(astm_engine(port_of(CONFIG)), data)
        for data in (single, single + unit * (6000 // len(unit)))
    )
    assert double <= 2.1 * first + 100
