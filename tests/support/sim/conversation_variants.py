"""Variants of recorded conversations with other bytes of patients, and everything that a box does with them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from random import Random
from typing import Final

from msgspec.structs import replace

from sim.conversations.casefile import Conversation
from sim.conversations.machine import ConversationBox
from sim.conversations.player import Player, clock_of, connect_in_memory
from sim.net.loop import SimLoop
from tests.support.sim import conversations
from tests.support.wire.noninterference import NON_DELIMITERS, with_checksums

LENGTH_MAX: Final = 60
CASES: Final = [case for case in conversations.CASES if case.patient_data]
"""The conversations with data of persons."""
Variant = tuple[Conversation, bytes]


def variants(case: Conversation, number: int) -> Iterator[Variant]:
    """Yield the conversation with random bytes in its ranges; every other one with other lengths.

    Columns have fixed widths: no other lengths for AU. A name has at least one byte: an empty one is no name.
    """
    random, data = Random(case.name), case.file.read_bytes()
    spans = sorted((int(str(first)), int(str(end))) for first, end, *_ in case.patient_data)
    for turn in range(number):
        other_length = turn % 2 == 1 and case.standard != "au-serial"
        pieces, moved, position = [], [(0, 0)], 0
        for first, end in spans:
            length = random.randint(1, LENGTH_MAX) if other_length else end - first
            pieces += [data[position:first], bytes(random.choices(NON_DELIMITERS[1:], k=length))]
            moved.append((end, moved[-1][1] + length - (end - first)))
            position = end
        changed = b"".join([*pieces, data[position:]])
        if case.standard.startswith("astm"):
            changed = with_checksums(changed)
        yield replace(case, script=[_moved(step, moved) for step in case.script]), changed


def _moved(step: str, moved: list[tuple[int, int]]) -> str:
    """Return a step whose positions are those in the changed data."""
    kind, *arguments = step.split()
    if kind != "send":
        return step
    return " ".join([kind, *(str(_shift(int(place), moved)) for place in arguments)])


def _shift(place: int, moved: list[tuple[int, int]]) -> int:
    return place + [by for end, by in moved if end <= place][-1]


class _Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__(0)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None  # not the address of its traceback
        self.seen.append(f"{record.getMessage()} {error!r}")


def observe(variant: Variant) -> object:
    """Return all records (reports and audit), counts, answers with their times, log messages, and reported errors."""
    case, data = variant
    loop, messages = SimLoop(), _Messages()
    loop.set_exception_handler(lambda _loop, context: messages.seen.append(str(context)))
    logging.getLogger().addHandler(messages)

    async def play() -> object:
        box = ConversationBox(case, clock_of(case))
        player = Player(box, connect_in_memory, case, data, lambda piece: [piece])
        await player.open()
        for step in case.steps():
            await player.follow(step)
        await player.close()
        entries = await box.port.entries()
        await box.port.close()
        return entries, box.counts, player.played.sent, player.played.problems, messages.seen

    try:
        return loop.run_until_complete(play())
    finally:
        loop.close()
        logging.getLogger().removeHandler(messages)


def differing(case: Conversation, number: int) -> Iterator[bytes]:
    """Yield the variants, of `number`, that a box treats otherwise than the conversation itself."""
    right = observe((case, case.file.read_bytes()))
    for variant in variants(case, number):
        if observe(variant) != right:
            yield variant[1]
