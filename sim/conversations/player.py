"""Plays a recorded conversation against the intake of the box, in virtual time: engine, driver, store, allow-list."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Final

from agents.box.buffer import Buffer
from agents.box.commands import CommandDispatcher, CommandQueue
from agents.box.health.audit import AuditLog, encode_gap, now_ms
from agents.box.intake.adapter import Adapter
from agents.box.intake.intake import Intake, Source
from agents.box.state import BoxState
from agents.spool import Priority, Spool, SpoolLimits
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from sim.conversations.casefile import SILENCE_SECONDS, Conversation, Step, expected_reports
from sim.net.loop import SimLoop
from wire.messages import Entry, Report, decode
from wire.profiles import AllowList
from wire.standards.engines import make_engine
from wire.standards.extract import Reason

SERIAL: Final = "RECORDED-1"
DISK_BYTES: Final = 32 * 1024 * 1024
DEFAULT_MS: Final = 1_930_392_000_000
"""The box's time for cases whose reports have none: 2031-03-04T12:00:00Z."""
MARGIN_MS: Final = 60_000
FREE: Final = ("samples", "readings")
"""Fields of reports that a case need not list."""

Split = Callable[[bytes], list[bytes]]
"""Divides the bytes of one `send` into writes."""


class Played:
    """What a case yielded: the problems found, and everything that left the box."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.sent: list[tuple[float, bytes]] = []
        self.entries: list[bytes] = []
        self.reports: list[dict[str, object]] = []
        self.counts: Counter[str] = Counter()


class _Line:
    """A connection between the script and the driver."""

    def __init__(self) -> None:
        self._to_box: asyncio.Queue[bytes] = asyncio.Queue()
        self.answers = bytearray()
        self.arrived = asyncio.Event()

    async def read(self) -> bytes:
        return await self._to_box.get()

    async def write(self, data: bytes) -> None:
        self.answers += data
        self.arrived.set()

    def send(self, data: bytes) -> None:
        self._to_box.put_nowait(data)


def play(case: Conversation, data: bytes, split: Split = lambda data: [data]) -> Played:
    """Play a case with these bytes as the content of its file."""
    loop = SimLoop()
    try:
        return loop.run_until_complete(_Player(loop, case, data, split).play())
    finally:
        loop.close()


class _Player:
    def __init__(self, loop: SimLoop, case: Conversation, data: bytes, split: Split) -> None:
        self._loop, self._case, self._data, self._split = loop, case, data, split
        self._played = Played()
        times = [at for report in expected_reports(case) if isinstance(at := report.get("at"), int)]
        self._start_ms = max(times) + MARGIN_MS if times else DEFAULT_MS
        self._line = _Line()
        self._talk: asyncio.Task[None] | None = None

    async def play(self) -> Played:
        clock = EmulClock(lambda: self._start_ms * 1_000_000 + int(self._loop.env.now))
        spool = Spool.open(
            EmulDisk(DISK_BYTES, Random(1)),
            SpoolLimits(spool_bytes_max=DISK_BYTES // 2),
            random=Random(1),
            encode_gap=partial(encode_gap, clock=clock),
        )
        buffer = Buffer(spool)
        source = self._source(buffer, clock)
        self._open()
        for step in self._case.steps():
            await self._follow(step)
        self._close()
        assert self._talk is not None
        await asyncio.wait((self._talk,))
        await self._collect(buffer, source)
        await buffer.close()
        return self._played

    def _source(self, buffer: Buffer, clock: EmulClock) -> Source:
        audit, profile = AuditLog(buffer, clock), self._case.profile()
        dispatcher = CommandDispatcher({"": CommandQueue(), SERIAL: CommandQueue()}, {}, audit)
        intake = Intake(
            buffer,
            BoxState(),
            dispatcher,
            audit.note,
            {SERIAL: 1},
            {SERIAL: AllowList(profile)},
            partial(now_ms, clock),
        )
        source = intake.sources[SERIAL]
        self._adapter = Adapter(
            intake,
            source,
            partial(make_engine, profile, self._case.config, partial(now_ms, clock)),
            audit.note,
        )
        return source

    # -- the script

    async def _follow(self, step: Step) -> None:
        match step.kind:
            case "send":
                first, end = map(int, step.arguments)
                self._sent_at = self._loop.time()
                for piece in self._split(self._data[first:end]):
                    self._line.send(piece)
                    await asyncio.sleep(0)
            case "reply":
                await self._expect_bytes(step)
            case "ack":
                await self._expect_acknowledgement(step)
            case "silence" | "not":
                await self._expect_silence(step)
            case "wait":
                await asyncio.sleep(step.after_s)
            case "close":
                self._close()
            case "open":
                self._open()

    def _open(self) -> None:
        self._line = _Line()
        self._talk = asyncio.ensure_future(self._adapter.converse(self._line))

    def _close(self) -> None:
        self._line.send(b"")

    async def _take(self, size: int, seconds: float) -> bytes:
        """The next `size` bytes of the answers, or what has arrived of them in `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while len(self._line.answers) < size:
                    self._line.arrived.clear()
                    await self._line.arrived.wait()
        except TimeoutError:
            pass
        taken = bytes(self._line.answers[:size])
        del self._line.answers[:size]
        self._played.sent.append((round(self._loop.time() - self._sent_at, 6), taken))
        return taken

    async def _expect_bytes(self, step: Step) -> None:
        expected = bytes.fromhex("".join(step.arguments))
        taken = await self._take(len(expected), step.before_s)
        waited_s = self._loop.time() - self._sent_at
        if taken != expected:
            self._wrong(f"reply {expected.hex(' ')} expected, got {taken.hex(' ') or 'nothing'}")
        elif waited_s < step.after_s:
            self._wrong(f"reply after {waited_s:g} s, expected after {step.after_s:g} s")

    async def _expect_acknowledgement(self, step: Step) -> None:
        taken = bytearray()
        while not taken.endswith(b"\x1c\r"):
            byte = await self._take(1, step.before_s)
            if not byte:
                break
            taken += byte
        found = _acknowledgement(bytes(taken))
        code, control_id, event = step.arguments
        expected = code, "" if control_id == "-" else control_id, event
        if found != expected:
            self._wrong(f"acknowledgement {expected} expected, got {found or 'none'}")

    async def _expect_silence(self, step: Step) -> None:
        forbidden = bytes.fromhex("".join(step.arguments))
        await asyncio.sleep(step.after_s or SILENCE_SECONDS)
        answers = bytes(self._line.answers)
        self._line.answers.clear()
        if (step.kind == "silence" and answers) or (forbidden and answers.startswith(forbidden)):
            self._wrong(f"{step.kind} {forbidden.hex(' ')}expected, got {answers.hex(' ')}")

    def _wrong(self, problem: str) -> None:
        self._played.problems.append(problem)

    # -- the result

    async def _collect(self, buffer: Buffer, source: Source) -> None:
        played = self._played
        if self._line.answers:
            self._wrong(f"{len(self._line.answers)} bytes answered that the script does not expect")
        records = [
            record for priority in Priority for record in await buffer.read(priority, 1 << 16, 1 << 24)
        ]
        for _, payload in sorted(records):
            entry = decode(Entry, payload)
            if isinstance(entry.body, Report):
                played.entries.append(payload)
                played.reports.append(_as_table(entry.body))
        counts = {reason.value: n for reason, n in source.counts.items() if n and reason is not Reason.LITTER}
        played.counts = Counter(counts)
        played.problems += _differences(self._case, played)


def _as_table(body: Report) -> dict[str, object]:
    tag = str(type(body).__struct_config__.tag)
    values = {name: getattr(body, name) for name in body.__struct_fields__ if name not in ("number", "at_ms")}
    return {"kind": tag, **values, "at": body.at_ms}


def _differences(case: Conversation, played: Played) -> Iterator[str]:
    expected = expected_reports(case)
    if len(expected) != len(played.reports):
        yield f"{len(expected)} reports expected, got {len(played.reports)}"
    for number, (right, found) in enumerate(zip(expected, played.reports, strict=False), 1):
        for key, value in right.items():
            if found.get(key) != value:
                yield f"report {number}: {key} = {value!r} expected, got {found.get(key)!r}"
        for key in found.keys() - right.keys() - {"at", *FREE}:
            if found[key] is not None:
                yield f"report {number}: {key} = {found[key]!r} is not expected"
    if played.counts != case.counts():
        yield f"counts {dict(case.counts())} expected, got {dict(played.counts)}"


def _acknowledgement(frame: bytes) -> tuple[str, str, str] | None:
    """MSA-1, MSA-2 and MSH-9.2 of an HL7 answer."""
    fields = {line[:3]: line.split(b"|") for line in frame.strip(b"\x0b\x1c\r").split(b"\r")}
    header, msa = fields.get(b"MSH", []), fields.get(b"MSA", [])
    if len(header) < 9 or len(msa) < 2:
        return None
    event = [*header[8].split(b"^"), b""][1]
    control_id = msa[2] if len(msa) > 2 else b""
    return msa[1].decode(), control_id.decode("latin-1"), event.decode()
