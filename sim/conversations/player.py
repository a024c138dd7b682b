"""Plays a recorded conversation against the intake of the box: engine, driver, store, allow-list.

`play` does so in virtual time. A `Player` also plays over other lines, such as a TCP connection or a serial line.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol

from hal.emul.clock import EmulClock
from sim.conversations.casefile import SILENCE_SECONDS, Conversation, ScriptStep, expected_reports
from sim.conversations.machine import DISK_BYTES, ConversationBox
from sim.conversations.port import ConversationPort
from sim.net.loop import SimLoop
from wire.messages import Entry, Report, decode
from wire.standards.extract import Reason

DEFAULT_MS: Final = 1_930_392_000_000
"""The time of the box's clock for cases whose reports have no time: 2031-03-04T12:00:00Z."""
_VALUE: Final = re.compile(rb' V="([^"]*)"')
COMMAND_ID: Final = b"COMMAND-ID"
"""The placeholder in the instrument's bytes for the MSH-10 of the box's last command."""
MARGIN_MS: Final = 60_000
FREE: Final = ("samples", "readings")
"""Fields of reports that a case need not list."""

Split = Callable[[bytes], list[bytes]]
"""Divides the bytes of one `send` into writes."""


class Played:
    """The result of a case: the problems found, and everything that left the box."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.sent: list[tuple[float, bytes]] = []
        self.entries: list[bytes] = []
        self.reports: list[dict[str, object]] = []
        self.counts: Counter[str] = Counter()


class ScriptLine(Protocol):
    """The script's end of a line to the box."""

    answers: bytearray
    """The bytes that the box has sent and the script has not processed yet."""
    arrived: asyncio.Event
    """Set when `answers` has grown."""

    def send(self, data: bytes) -> None:
        """Send bytes to the box."""
        ...

    async def close(self) -> None:
        """End the connection, and wait until the box has closed its end."""
        ...


Connect = Callable[[ConversationPort], Awaitable[ScriptLine]]
"""Connects the script with the box."""


class MemoryLine:
    """A line in memory, for virtual time: both ends."""

    def __init__(self, port: ConversationPort) -> None:
        self._port = port
        self._to_box: asyncio.Queue[bytes] = asyncio.Queue()
        self.answers = bytearray()
        self.arrived = asyncio.Event()
        self._conversation = asyncio.ensure_future(port.adapter.converse(self))

    async def read(self) -> bytes:
        """See `agents.box.intake.adapter.InstrumentChannel`."""
        return await self._to_box.get()

    async def write(self, data: bytes) -> None:
        """See `agents.box.intake.adapter.InstrumentChannel`."""
        if self._port.has_power:
            self.answers += data
            self.arrived.set()

    def send(self, data: bytes) -> None:
        """See `ScriptLine`."""
        self._to_box.put_nowait(data)

    async def close(self) -> None:
        """See `ScriptLine`."""
        self.send(b"")
        await asyncio.wait((self._conversation,))


async def connect_in_memory(port: ConversationPort) -> ScriptLine:
    """Connect the script through a `MemoryLine`."""
    return MemoryLine(port)


def play(case: Conversation, data: bytes, split: Split = lambda data: [data]) -> Played:
    """Play a case with these bytes as the content of its file, in virtual time."""
    loop = SimLoop()
    try:
        return loop.run_until_complete(play_over(connect_in_memory, case, data, split))
    finally:
        loop.close()


async def play_over(
    connect: Connect,
    case: Conversation,
    data: bytes,
    split: Split = lambda data: [data],
    change: Callable[[ScriptStep], ScriptStep] = lambda step: step,
) -> Played:
    """Play a case on the running event loop. `change` changes its steps, for example their time limits."""
    box = ConversationBox(case, clock_of(case))
    player = Player(box, connect, case, data, split)
    await player.open()
    for step in case.steps():
        await player.follow(change(step))
    await player.close()
    await player.check()
    await box.port.close()
    return player.played


def clock_of(case: Conversation) -> EmulClock:
    """Return a wall clock on the running event loop that begins shortly after the reports of a case."""
    times = [at for report in expected_reports(case) if isinstance(at := report.get("at"), int)]
    start_ms = max(times) + MARGIN_MS if times else DEFAULT_MS
    loop = asyncio.get_running_loop()
    began = loop.time()
    return EmulClock(lambda: start_ms * 1_000_000 + round((loop.time() - began) * 1e9))


class Player:
    """Executes the steps of a script, and adds the problems found to `played`."""

    def __init__(
        self, box: ConversationBox, connect: Connect, case: Conversation, data: bytes, split: Split
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._box, self._connect, self._case, self._data, self._split = box, connect, case, data, split
        self.played = Played()
        self._sent_at = self._loop.time()
        self._command_id = b""
        """MSH-10 of the command that the box sent last."""

    # -- the script

    async def follow(self, step: ScriptStep) -> None:
        """Execute one step."""
        match step.kind:
            case "send":
                first, end = map(int, step.arguments)
                self._sent_at = self._loop.time()
                data = self._data[first:end].replace(COMMAND_ID, self._command_id or COMMAND_ID)
                for piece in self._split(data):
                    self._line.send(piece)
                    await asyncio.sleep(0)
            case "reply":
                await self._expect_bytes(step)
            case "ack":
                await self._expect_acknowledgement(step)
            case "command":
                await self._expect_command(step)
            case "document":
                await self._expect_document(step)
            case "box":
                await self._command_box(*step.arguments)
            case "silence" | "not":
                await self._expect_silence(step)
            case "wait":
                await asyncio.sleep(step.after_s)
            case "close":
                await self.close()
            case "open":
                await self.open()

    async def open(self) -> None:
        """Open the connection."""
        self._line = await self._connect(self._box.port)

    async def close(self) -> None:
        """Close the connection, and wait until the box has closed its end."""
        await self._line.close()

    async def _command_box(self, action: str, *arguments: str) -> None:
        """Perform an action of the box. After a restart of the box, the instrument connects again."""
        disk = self._box.disk.backend
        match action, *arguments:
            case "restart", *_:
                await self.close()
                await self._box.restart()
                await self.open()
            case "power-cut", number:
                self._box.cut_power_at(int(number))
            case (("power-cut" | "start"), *_):
                self._box.cut_power()
                await self.close()
                await self.open()
            case "disk", state:
                disk.set_read_only(state == "read-only")
                disk.set_capacity(disk.used_bytes if state == "full" else DISK_BYTES)
            case "command", *number, verb:
                self._box.port.command(int(number[0]) if number else 1, verb)

    async def _take(self, size: int, seconds: float) -> bytes:
        """Return the next `size` bytes of the answers, or fewer if no more arrive within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while len(self._line.answers) < size:
                    self._line.arrived.clear()
                    await self._line.arrived.wait()
        except TimeoutError:
            pass
        taken = bytes(self._line.answers[:size])
        del self._line.answers[:size]
        self.played.sent.append((round(self._loop.time() - self._sent_at, 6), taken))
        return taken

    async def _expect_bytes(self, step: ScriptStep) -> None:
        expected = bytes.fromhex("".join(step.arguments))
        taken = await self._take(len(expected), step.before_s)
        waited_s = self._loop.time() - self._sent_at
        if taken != expected:
            self._add_problem(f"reply {expected.hex(' ')} expected, got {taken.hex(' ') or 'nothing'}")
        elif waited_s < step.after_s:
            self._add_problem(f"reply after {waited_s:g} s, expected after {step.after_s:g} s")

    async def _take_message(self, seconds: float) -> bytes:
        """Return the next HL7 message of the box, or its beginning if the rest does not arrive within `seconds`."""
        taken = bytearray()
        while not taken.endswith(b"\x1c\r"):
            byte = await self._take(1, seconds)
            if not byte:
                break
            taken += byte
        return bytes(taken)

    async def _expect_command(self, step: ScriptStep) -> None:
        fields = (await self._take_message(step.before_s)).split(b"|")
        found = fields[8].decode().split("^")[:2] if len(fields) > 9 else []
        if found != list(step.arguments):
            self._add_problem(f"command {'^'.join(step.arguments)} expected, got {'^'.join(found) or 'none'}")
        else:
            self._command_id = fields[9]

    async def _expect_document(self, step: ScriptStep) -> None:
        kind, values = step.arguments
        taken, end = bytearray(), f"</{kind}>".encode()
        while not taken.endswith(end) and (byte := await self._take(1, step.before_s)):
            taken += byte
        body = bytes(taken).partition(b"</HDR>")[2]
        found = " ".join(value.decode("latin-1") for value in _VALUE.findall(body)).strip()
        if not taken.endswith(end) or found != values:
            self._add_problem(f"document {kind} {values} expected, got {found or 'none'}")

    async def _expect_acknowledgement(self, step: ScriptStep) -> None:
        found = _acknowledgement(await self._take_message(step.before_s))
        code, control_id, event = step.arguments
        expected = code, "" if control_id == "-" else control_id, event
        if found != expected:
            self._add_problem(f"acknowledgement {expected} expected, got {found or 'none'}")

    async def _expect_silence(self, step: ScriptStep) -> None:
        forbidden = bytes.fromhex("".join(step.arguments))
        await asyncio.sleep(step.after_s or SILENCE_SECONDS)
        answers = bytes(self._line.answers)
        self._line.answers.clear()
        if (step.kind == "silence" and answers) or (forbidden and answers.startswith(forbidden)):
            self._add_problem(f"{' '.join([step.kind, *step.arguments])} expected, got {answers.hex(' ')}")

    def _add_problem(self, problem: str) -> None:
        self.played.problems.append(problem)

    # -- the result

    async def check(self) -> None:
        """Compare reports and counts with those of the case."""
        played = self.played
        if self._line.answers:
            self._add_problem(
                f"{len(self._line.answers)} bytes in the answers that the script does not expect"
            )
        await check_reports(self._box.port, self._case, played, self._box.counts)


async def check_reports(
    port: ConversationPort, case: Conversation, played: Played, counted: Counter[Reason]
) -> None:
    """Compare the reports of a port, and what was counted, with those of a case, and note them in `played`."""
    for payload in await port.entries():
        entry = decode(Entry, payload)
        if isinstance(entry.body, Report):
            played.entries.append(payload)
            played.reports.append(_as_table(entry.body))
    counts = {reason.value: n for reason, n in counted.items() if n and reason is not Reason.LITTER}
    played.counts = Counter(counts)
    played.problems += _differences(case, played)


def _as_table(body: Report) -> dict[str, object]:
    tag = str(type(body).__struct_config__.tag)
    values = {name: getattr(body, name) for name in body.__struct_fields__ if name not in ("number", "at_ms")}
    return {"kind": tag, **values, "at": body.at_ms}


def _differences(case: Conversation, played: Played) -> Iterator[str]:
    expected = expected_reports(case)
    if len(expected) != len(played.reports):
        yield f"{len(expected)} reports expected, got {len(played.reports)}"
    for number, (expected_report, report) in enumerate(zip(expected, played.reports, strict=False), 1):
        for key, value in expected_report.items():
            if report.get(key) != value:
                yield f"report {number}: {key} = {value!r} expected, got {report.get(key)!r}"
        for key in report.keys() - expected_report.keys() - {"at", *FREE}:
            if report[key] is not None:
                yield f"report {number}: {key} = {report[key]!r} is not expected"
    if played.counts != case.counts():
        yield f"counts {dict(case.counts())} expected, got {dict(played.counts)}"


def _acknowledgement(frame: bytes) -> tuple[str, str, str] | None:
    """Return MSA-1, MSA-2 and MSH-9.2 of an HL7 answer."""
    fields = {line[:3]: line.split(b"|") for line in frame.strip(b"\x0b\x1c\r").split(b"\r")}
    header, msa = fields.get(b"MSH", []), fields.get(b"MSA", [])
    if len(header) < 9 or len(msa) < 2:
        return None
    event = [*header[8].split(b"^"), b""][1]
    control_id = msa[2] if len(msa) > 2 else b""
    return msa[1].decode(), control_id.decode("latin-1"), event.decode()
