"""Variants of recorded conversations with other patient data, and the observable behavior of a box for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from random import Random
from typing import Final

from msgspec.structs import replace

from agents.box.intake.observation import ConnectionObservation
from sim.conversations.casefile import Conversation
from sim.conversations.machine import ConversationBox
from sim.conversations.player import MemoryLine, Player, ScriptLine, clock_of, connect_in_memory
from sim.conversations.port import ConversationPort
from sim.net.loop import SimLoop
from tests.support.sim.conversations import recorded
from tests.support.wire.noninterference import NON_DELIMITERS, with_checksums

LENGTH_MAX: Final = 60
CASES: Final = [case for case in recorded.CASES if case.patient_data]
"""The conversations that contain data of persons."""
Variant = tuple[Conversation, bytes]
Watch = Callable[[Variant], object]


def variants(case: Conversation, count: int) -> Iterator[Variant]:
    """Yield `count` variants with random bytes as patient data; in every second one their lengths differ, too.

    AU has columns of fixed width, so lengths stay. A value has at least one byte: an empty field is no name.
    """
    random, data = Random(case.name), case.file.read_bytes()
    spans = sorted((int(str(first)), int(str(end))) for first, end, *_ in case.patient_data)
    for turn in range(count):
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
    return " ".join([kind, *(str(_shift(int(position), moved)) for position in arguments)])


def _shift(position: int, moved: list[tuple[int, int]]) -> int:
    return position + [by for end, by in moved if end <= position][-1]


class _Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__(0)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None  # not the address of its traceback
        self.seen.append(f"{record.getMessage()} {error!r}")


def observe(variant: Variant) -> object:
    """Return all records (reports and audit), counts, answers with their times, log messages and reported errors."""
    return _with_messages(_play(*variant))


def observe_passing(variant: Variant) -> object:
    """Return the same as `observe`, without answers, for a box that observes a conversation with another host."""
    return _with_messages(_play_observed(*variant))


def _with_messages(play: Coroutine[object, object, object]) -> object:
    """Return the result of a conversation, with all log messages and reported errors."""
    loop, messages = SimLoop(), _Messages()
    loop.set_exception_handler(lambda _loop, context: messages.seen.append(str(context)))
    logging.getLogger().addHandler(messages)
    try:
        return loop.run_until_complete(play), messages.seen
    finally:
        loop.close()
        logging.getLogger().removeHandler(messages)


async def _play(case: Conversation, data: bytes) -> object:
    """Return the results of a box that answers the instrument."""
    box = ConversationBox(case, clock_of(case))
    player = Player(box, connect_in_memory, case, data, lambda piece: [piece])
    await _follow(player, case)
    entries = await box.port.entries()
    await box.port.close()
    return entries, box.counts, player.played.sent, player.played.problems


async def _play_observed(case: Conversation, data: bytes) -> object:
    """Return the results of a box that observes the conversation."""
    host, seen = ConversationBox(case, clock_of(case)), ConversationBox(case, clock_of(case))
    observation = seen.port.observation(replace(case.config, role="pass-through"))
    reading = asyncio.ensure_future(observation.run())

    async def connect(port: ConversationPort) -> ScriptLine:
        return _ObservedLine(port, observation)

    player = Player(host, connect, case, data, lambda piece: [piece])
    await _follow(player, case)
    observation.end()
    await reading
    entries = await seen.port.entries()
    await seen.port.close()
    return entries, seen.counts, player.played.problems


async def _follow(player: Player, case: Conversation) -> None:
    await player.open()
    for step in case.steps():
        await player.follow(step)
    await player.close()


class _ObservedLine(MemoryLine):
    """A line in memory between the script and a host; another box observes both directions."""

    def __init__(self, host: ConversationPort, observation: ConnectionObservation) -> None:
        self._observation = observation
        super().__init__(host)

    async def write(self, data: bytes) -> None:
        self._observation.add(data, from_host=True)
        await super().write(data)

    def send(self, data: bytes) -> None:
        self._observation.add(data, from_host=False)
        super().send(data)


def differing(case: Conversation, count: int, watch: Watch = observe) -> Iterator[bytes]:
    """Yield those of `count` variants that a box treats differently from the recorded conversation."""
    expected = watch((case, case.file.read_bytes()))
    for variant in variants(case, count):
        if watch(variant) != expected:
            yield variant[1]
