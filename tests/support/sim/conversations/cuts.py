"""Recorded conversations with power cuts: compares the stored reports with those of a run without power cuts.

An instrument repeats a message from its beginning until it is acknowledged. A message lasts from one ENQ to the
next (ASTM), from one hello to the next (POCT1-A), or is one `send` step (HL7, AU). After the last message all
reports must be stored: an acknowledged message is never repeated, so its reports are missing if a power cut has
lost them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from random import Random

from agents.spool import SpoolError
from hal.emul.disk import EmulDisk
from sim.conversations.casefile import Conversation, ScriptStep
from sim.conversations.machine import DISK_BYTES, ConversationBox
from sim.conversations.player import Player, clock_of, connect_in_memory
from sim.conversations.port import ConversationPort
from sim.net.loop import SimLoop
from tests.support.sim.conversations import recorded
from wire.messages import Entry, Report, decode

NAMES = (
    "astm-qc-alarm-and-blob",
    "astm-split-inside-a-record",
    "hl7-status-with-offset",
    "hl7-inventory-line-feeds",
    "au-fixed-columns",
    "poct1a-basic-conversation",
)
CASES = [case for case in recorded.CASES if case.name in NAMES]
BEGINNINGS = {"astm-tcp": b"\x05", "astm-serial": b"\x05", "poct1a": rb"<\?xml[^>]*><HEL"}
"""The pattern of the first bytes of an instrument's message; in other standards each sent piece begins a message."""


def messages(case: Conversation, data: bytes) -> list[list[ScriptStep]]:
    """Return the steps of the script, grouped by message."""
    grouped: list[list[ScriptStep]] = []
    for step in case.steps():
        piece = data[slice(*map(int, step.arguments))] if step.kind == "send" else b""
        if piece and re.match(BEGINNINGS.get(case.standard, b""), piece):
            grouped.append([])
        grouped[-1].append(step)
    return grouped


class CutConversation:
    """A conversation with power cuts at the disk operations `cuts_at`, each counted from the preceding start."""

    def __init__(self, case: Conversation, cuts_at: Sequence[int] = (), seed: int = 1) -> None:
        self.case, self.cuts_at, self._data = case, cuts_at, case.file.read_bytes()
        self._random = Random(seed)
        self._unacknowledged = messages(case, self._data)
        self._disk = EmulDisk(DISK_BYTES, Random(seed))
        self.cuts = 0
        """Power cuts in the middle of the conversation."""
        self.starts = 0
        """Starts of the box."""
        self.operations = 0
        """Disk operations since the last start."""
        self.stored: list[Entry] = []

    def run(self) -> CutConversation:
        """Play until all messages are acknowledged, then cut the power again and read the stored reports."""
        while self._unacknowledged:
            self._disk.backend.cut_power_at(
                self.cuts_at[self.starts] if self.starts < len(self.cuts_at) else 1 << 30
            )
            self.starts += 1
            self._run_in_loop(self._converse)
            if self._disk.backend.has_power:
                self.operations = (1 << 30) - self._disk.backend.operations_until_cut
                self._disk.backend.cut_power()
            else:
                self.cuts += 1
            self._disk = self._disk.backend.reboot()
        self._run_in_loop(self._read)
        return self

    def reports(self, *without: str) -> Counter[str]:
        """Return the stored reports without their numbers and the fields `without`."""
        left_out = {"number", *without}
        return Counter(
            f"{type(body).__name__} { {name: getattr(body, name) for name in names if name not in left_out} }"
            for body in (entry.body for entry in self.stored)
            if (names := body.__struct_fields__)
        )

    def numbers_used_twice(self) -> int:
        """Return how many reports have the number of an earlier one."""
        numbers = [(entry.run, entry.body.number) for entry in self.stored if isinstance(entry.body, Report)]
        return len(numbers) - len(set(numbers))

    def _run_in_loop(self, main: Callable[[], Coroutine[object, object, None]]) -> None:
        loop = SimLoop()
        try:
            with suppress(SpoolError):
                loop.run_until_complete(main())
        finally:
            loop.close()

    async def _converse(self) -> None:
        disk = self._disk
        box = ConversationBox(self.case, clock_of(self.case), disk, self._random)
        player = Player(box, connect_in_memory, self.case, self._data, lambda data: [data])
        await player.open()
        while self._unacknowledged and disk.backend.has_power and not player.played.problems:
            for step in self._unacknowledged[0]:
                await player.follow(step)
                if player.played.problems:
                    break
            else:
                del self._unacknowledged[0]
        if disk.backend.has_power and player.played.problems:
            raise AssertionError(f"without a power cut: {player.played.problems}")
        await player.close()
        await box.port.close()

    async def _read(self) -> None:
        port = ConversationPort(self.case, self._disk, clock_of(self.case), self._random)
        entries = [decode(Entry, payload) for payload in await port.entries()]
        self.stored = [entry for entry in entries if isinstance(entry.body, Report)]
        await port.close()


def differences(clean: CutConversation, cut: CutConversation) -> list[str]:
    """Return the problems of a conversation with power cuts, compared with one without."""
    problems = []
    untimed = ["at_ms"] if cut.case.standard == "au-serial" else []
    expected, stored = clean.reports(*untimed), cut.reports(*untimed)
    if lost := expected - stored:
        problems.append(f"cuts at {cut.cuts_at}: lost {list(lost)}")
    if twice := stored - expected:
        problems.append(f"cuts at {cut.cuts_at}: stored twice or changed {list(twice)}")
    if cut.numbers_used_twice():
        problems.append(f"cuts at {cut.cuts_at}: a number was used for two reports")
    return problems
