"""The box program with eight instruments that use their own standards: `python -m bench.box.adapted_box [--json]`.

`rap box run` runs in its own process with two ports each for HL7, ASTM over TCP, POCT1-A and ASTM over RS-232, the
latter over ptys, and forwards to a real `rap dc serve`. Each instrument sends the reports of its model and patient
results, one message after the other. Memory is VmHWM, the peak of the resident memory, shared libraries
included.

The time of an answer is that from the last byte of a frame to the box's acknowledgement. Within a message nothing is
stored; the acknowledgement of a message's last frame follows the flush of the disk. At 9600 baud the last byte of a
frame is written when it would have arrived, since a pty has no speed. Beside it is the time of a program that does
nothing but answer, as a measure of the machine and its load.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from statistics import median
from subprocess import Popen
from tempfile import TemporaryDirectory
from typing import Any, Final

from msgspec.structs import astuple

from bench.box.memory import peak_mb
from bench.figures import Figure, figure, run
from settings.profile import TCP_PORTS, load_profile
from settings.toml import as_table, dumps
from sim.instruments.history import History
from sim.instruments.host_interface.interface import HostInterface, OutgoingMessage, site_settings
from sim.instruments.host_interface.transmitters.transmitter import TransmitterAction, TransmitterEvents
from sim.units import DAY_NS, MINUTE_NS
from tests.support.real import BOX, Site, prepare
from wire.standards.engine import Send
from wire.standards.lis1.frames import ACK, ENQ, EOT, FrameStyle, frames_of

MODELS: Final = ("modular-analyzer", "blood-cell-counter", "blood-gas-analyzer", "electrolyte-analyzer") * 2
MESSAGES: Final = 150
"""Messages of each instrument."""
SESSIONS: Final = 100
BYTE_S: Final = 10 / 9600
BARE: Final = """
import os, sys
line = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
while data := os.read(line, 4096):
    if data[-1:] in (b"\\n", b"\\5"):
        os.write(line, b"\\6")
"""
ADDRESS: Final = "127.0.0.{}"
CONNECT_S_MAX: Final = 60.0


class Wire:
    """The instrument's end of a TCP connection or pty."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd, self._received = fd, asyncio.Queue[bytes]()
        asyncio.get_running_loop().add_reader(fd, self._receive)

    def _receive(self) -> None:
        self._received.put_nowait(os.read(self._fd, 4096))

    def write(self, data: bytes) -> None:
        """Write bytes; messages are smaller than the kernel's buffers."""
        assert os.write(self._fd, data) == len(data)

    async def read(self, until: float | None = None) -> bytes:
        """Return the next bytes; empty at the time `until` of the loop."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                return await self._received.get()
        return b""


class BenchInstrument:
    """One of the eight instruments, with its messages."""

    def __init__(self, number: int, model: str) -> None:
        self._clock_ns = time.time_ns() - DAY_NS * 9 // 10
        self.accepted = self.refused = 0
        events = TransmitterEvents(self._done, self._refuse)
        self._interface = HostInterface(model, frozenset(), lambda: self._clock_ns, events, Random(number))
        self._history = History(model, "X-1", number).until(30 * DAY_NS)
        self._number = number

    def _done(self, _: object) -> None:
        self.accepted += 1

    def _refuse(self, *_: object) -> None:
        self.refused += 1

    def next_messages(self, messages: int) -> list[OutgoingMessage]:
        """Return the next messages; every fifth has patient results."""
        outgoing = list[OutgoingMessage]()
        while len(outgoing) < messages:
            self._clock_ns += MINUTE_NS // 20
            if len(outgoing) % 5 == 4:
                outgoing.append(self._interface.measure_patient())
            elif message := self._next_report():
                outgoing.append(message)
        return outgoing

    def _next_report(self) -> OutgoingMessage | None:
        report = next(self._history)
        return self._interface.write(type(report), astuple(report)[2:])

    async def converse(self, wire: Wire, messages: Sequence[OutgoingMessage]) -> None:
        """Send messages until the box has acknowledged all."""
        transmitter, now = self._interface.transmitter, asyncio.get_running_loop().time
        for outgoing in messages:
            transmitter.enqueue(outgoing.message)
        actions: Sequence[TransmitterAction] = transmitter.connected(now())
        until = self.accepted + len(messages)
        while True:
            for action in actions:
                assert isinstance(action, Send), "without a dialect no transfer is aborted"
                wire.write(action.data)
            if self.accepted >= until:
                return
            data = await wire.read(transmitter.deadline)
            actions = transmitter.receive(data, now()) if data else transmitter.expired(now())


async def connect(address: str, port: int) -> int:
    """Connect to the box by TCP as soon as it listens."""
    until = time.monotonic() + CONNECT_S_MAX
    while True:
        try:
            return socket.create_connection((address, port)).detach()
        except OSError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.05)


def write_config(folder: Path, datacenter_port: int, devices: Sequence[str]) -> Path:
    """Write the configuration of a box with eight adapted ports; `devices` are its serial ports."""
    ports: list[dict[str, Any]] = []
    lines = 0
    for number, model in enumerate(MODELS, 1):
        lines += (is_serial := load_profile(model).speaks == "astm-serial")
        site = site_settings(model, frozenset(), lines if is_serial else None)
        instrument = {"serial": f"X-{number}", "model": model, "adapted": as_table(site)}
        ports.append(
            {
                "number": number,
                "listen": ADDRESS.format(10 + number),
                "tcp_port": 4430,
                "instrument": [instrument],
            }
        )
    start, _, rest = BOX.format(port=datacenter_port, instruments="").partition("[[port]]")
    file, (_, _, end) = folder / "box.toml", rest.partition("[spool]")
    file.write_text(f"{start}{dumps({'port': ports})}\n[spool]{end}")
    interfaces = {str(number): f"port{number}" for number in range(1, len(MODELS) + 1)}
    serial_ports = {str(number): device for number, device in enumerate(devices, 1)}
    board = {"name": "eight", "uplink": "lo", "instrument_ports": interfaces, "serial_ports": serial_ports}
    (folder / "board.toml").write_text(dumps(board))
    return file


@contextmanager
def bare_program() -> Iterator[Wire]:
    """Run a program that answers each line feed and ENQ."""
    master, slave = os.openpty()
    tty.setraw(slave)
    with Popen([sys.executable, "-c", BARE, os.ttyname(slave)]) as program:
        try:
            yield Wire(master)
        finally:
            program.kill()


async def answer_times(
    wire: Wire, messages: Sequence[OutgoingMessage], byte_s: float
) -> tuple[list[float], list[float]]:
    """Return the times of answers in ms: to frames within a message, and to the last frame of each."""
    within, last = list[float](), list[float]()
    for message in messages:
        frames = list(frames_of(message.message.data, FrameStyle()))
        for sent in (ENQ, *frames):
            wire.write(sent[:-1])
            await asyncio.sleep(len(sent) * byte_s)
            began = time.perf_counter()
            wire.write(sent[-1:])
            assert await wire.read() == ACK
            (last if sent is frames[-1] else within).append((time.perf_counter() - began) * 1000)
        wire.write(EOT)
    return within, last


def p99(values: list[float]) -> float:
    """Return the 99th percentile."""
    return sorted(values)[int(len(values) * 0.99)]


async def measure(folder: Path) -> list[Figure]:
    """Start the programs, send all messages, then measure answers at one of the serial ports."""
    await prepare(folder, [])
    ptys = [os.openpty() for model in MODELS if load_profile(model).speaks == "astm-serial"]
    for _, slave in ptys:
        tty.setraw(slave)
    async with Site(folder, []) as site:
        _, datacenter_port = await site.start_datacenter()
        config = write_config(folder, datacenter_port, [os.ttyname(slave) for _, slave in ptys])
        box, _ = await site.start("box", "run", "--config", config)
        masters = iter(ptys)
        instruments, wires = [BenchInstrument(*one) for one in enumerate(MODELS, 1)], list[Wire]()
        for number, model in enumerate(MODELS, 1):
            speaks = load_profile(model).speaks
            if speaks == "astm-serial":
                wires.append(Wire(next(masters)[0]))
            else:
                wires.append(Wire(await connect(ADDRESS.format(10 + number), TCP_PORTS[speaks])))
        ready_mb = peak_mb(box.pid)
        queues = [instrument.next_messages(MESSAGES) for instrument in instruments]
        await asyncio.gather(
            *(one.converse(wire, texts) for one, wire, texts in zip(instruments, wires, queues, strict=True))
        )
        await site.wait_until_stored(sum(one.finding is not None for texts in queues for one in texts))
        busy_mb, refused = peak_mb(box.pid), sum(one.refused for one in instruments)
        fast = await answer_times(wires[-1], instruments[-1].next_messages(SESSIONS), 0.0)
        slow = await answer_times(wires[-1], instruments[-1].next_messages(SESSIONS), BYTE_S)
        with bare_program() as wire:
            bare = await answer_times(wire, instruments[-1].next_messages(SESSIONS), BYTE_S)
    messages = f"{MESSAGES * len(MODELS):,} messages"
    return [
        figure("eight adapted ports, peak memory when ready", "MB", ready_mb),
        figure(f"eight adapted ports, peak memory after {messages}", "MB", busy_mb, "<= 64"),
        figure("  refused of them", "messages", refused, "<= 0"),
        figure("answer to a frame over a pty, 99th percentile", "ms", p99(fast[0]), "<= 5"),
        figure("answer to a frame at 9600 baud, 99th percentile", "ms", p99(slow[0]), "<= 5"),
        figure("  of a program that only answers", "ms", p99(bare[0] + bare[1])),
        figure("answer to a frame at 9600 baud, median", "ms", median(slow[0])),
        figure("  of a program that only answers", "ms", median(bare[0] + bare[1])),
        figure("  to the last of a message, after the flush, median", "ms", median(slow[1])),
        figure("  to the last of a message, after the flush, 99th percentile", "ms", p99(slow[1])),
    ]


def figures() -> list[Figure]:
    """Return all figures."""
    with TemporaryDirectory() as folder:
        return asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    run(figures, __doc__)
