"""The roles in which the box is not the instrument's host: a transparent pass-through to the host, and a listener.

A pass-through never answers and never delays data: each read is written to the other side at once, independently of
the observation (`agents.box.intake.observation`). Its only buffer is one read in each direction, so that flow control
works end to end, and the end of one connection ends the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from agents.box.intake.adapter import (
    READ_BYTES_MAX,
    SERIAL_RETRY_SECONDS,
    InstrumentChannel,
    SerialInstrumentChannel,
    TcpInstrumentChannel,
)
from agents.box.intake.intake import Note, Source
from agents.box.intake.observation import ConnectionObservation
from hal.serial import SerialError, SerialPort, SerialSettings
from wire.audit_events import AuditEvent
from wire.process.transports import probe_peer

CONNECT_SECONDS_MAX: Final = 10.0
"""How long the host may take to accept a connection. Instruments wait at least 15 s for an answer."""
HALF_OPEN_SECONDS_MAX: Final = 60.0
"""How long one direction continues after the other has ended."""
CONNECTIONS_MAX: Final = 8
"""Connections of one instrument; a further one ends the oldest."""

MakeObservation = Callable[[], ConnectionObservation]
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Connects to the laboratory's host. Raises: OSError."""


@dataclass(frozen=True, slots=True)
class SerialEnd:
    """A serial port and the settings of its line."""

    port: SerialPort
    settings: SerialSettings


class TcpPassThrough:
    """Relays each TCP connection of an instrument to a separate connection to the laboratory's host."""

    def __init__(self, source: Source, observe: MakeObservation, connect: Connect, note: Note) -> None:
        self._source, self._observe, self._connect, self._note = source, observe, connect, note
        self._connections: dict[asyncio.Task[None], None] = {}
        self._relayed = 0
        self._observations: set[asyncio.Task[None]] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection of the instrument: if the host cannot be reached, it is closed at once."""
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= CONNECTIONS_MAX:
            next(iter(self._connections)).cancel()
        self._connections[task] = None
        instrument = TcpInstrumentChannel(reader, writer)
        probe_peer(writer.transport)
        try:
            await self._serve(instrument)
        finally:
            instrument.abort()
            del self._connections[task]

    def end(self) -> None:
        """End all connections."""
        for connection in list(self._connections):
            connection.cancel()

    async def _serve(self, instrument: TcpInstrumentChannel) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                reader, writer = await self._connect()
        except OSError:  # includes TimeoutError
            self._note(AuditEvent.LABORATORY_HOST_UNREACHABLE, port=self._source.port)
            return
        probe_peer(writer.transport)
        host, observation = TcpInstrumentChannel(reader, writer), self._observe()
        reading = asyncio.ensure_future(observation.run())
        self._observations.add(reading)
        reading.add_done_callback(self._observations.discard)
        self._relayed += 1
        self._source.is_connected = True
        try:
            await _relay_both(instrument, host, observation)
            await asyncio.gather(instrument.close(), host.close())
        finally:
            host.abort()
            observation.end()
            self._relayed -= 1
            self._source.is_connected = self._relayed > 0
        instrument.abort()
        await reading


async def serve_serial_pass_through(
    source: Source, observe: MakeObservation, instrument: SerialEnd, host: SerialEnd, note: Note
) -> None:
    """Relay between two serial lines until cancelled; ports that fail are opened again."""

    async def relay(observation: ConnectionObservation) -> None:
        channels = SerialInstrumentChannel(instrument.port), SerialInstrumentChannel(host.port)
        await _first_of(
            _relay(channels[0], channels[1], observation, from_host=False),
            _relay(channels[1], channels[0], observation, from_host=True),
        )

    await _serve_lines(source, observe, [instrument, host], relay, note)


async def serve_listener(
    source: Source, observe: MakeObservation, instrument: SerialEnd, host: SerialEnd | None, note: Note
) -> None:
    """Listen to one or both directions of a serial line until cancelled; ports that fail are opened again."""

    async def listen(observation: ConnectionObservation) -> None:
        taps = [_listen(SerialInstrumentChannel(instrument.port), observation, from_host=False)]
        if host is not None:
            taps.append(_listen(SerialInstrumentChannel(host.port), observation, from_host=True))
        await _first_of(*taps)

    await _serve_lines(source, observe, [instrument, *([host] if host else [])], listen, note)


async def _serve_lines(
    source: Source,
    observe: MakeObservation,
    ends: list[SerialEnd],
    use: Callable[[ConnectionObservation], Awaitable[None]],
    note: Note,
) -> None:
    observation = observe()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(observation.run())
        while True:
            try:
                for end in ends:
                    end.port.open(end.settings)
                source.is_connected = True
                await use(observation)
            except SerialError:
                pass
            finally:
                source.is_connected = False
                for end in ends:
                    end.port.close()
                observation.interrupt()
            note(AuditEvent.PORT_NOT_SERVED, port=source.port)
            await asyncio.sleep(SERIAL_RETRY_SECONDS)


async def _relay_both(
    instrument: TcpInstrumentChannel, host: TcpInstrumentChannel, observation: ConnectionObservation
) -> None:
    """Relay both directions until both have ended, or one has failed."""
    directions = [
        asyncio.ensure_future(_relay(instrument, host, observation, from_host=False)),
        asyncio.ensure_future(_relay(host, instrument, observation, from_host=True)),
    ]
    try:
        done, pending = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        if pending and not any(task.exception() for task in done):
            await asyncio.wait(pending, timeout=HALF_OPEN_SECONDS_MAX)
    finally:
        for task in directions:
            task.cancel()
        await asyncio.gather(*directions, return_exceptions=True)


async def _relay(
    source: InstrumentChannel,
    target: InstrumentChannel,
    observation: ConnectionObservation,
    *,
    from_host: bool,
) -> None:
    """Write what arrives from `source` to `target`, unchanged. Raises: OSError if it cannot be written."""
    while data := await source.read():
        observation.add(data, from_host=from_host)
        await target.write(data)
    if isinstance(target, TcpInstrumentChannel):
        target.end()


async def _listen(channel: InstrumentChannel, observation: ConnectionObservation, *, from_host: bool) -> None:
    while data := await channel.read():
        observation.add(data, from_host=from_host)


async def _first_of(*parts: Awaitable[None]) -> None:
    """Run all until the first has ended, then cancel the others."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        with suppress(OSError, SerialError):
            await asyncio.gather(*tasks, return_exceptions=True)


async def connect_to_host(address: str, tcp_port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the laboratory's host. Raises: OSError."""
    return await asyncio.open_connection(address, tcp_port, limit=READ_BYTES_MAX)
