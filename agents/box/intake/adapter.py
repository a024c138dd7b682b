"""Runs the engine of an instrument that speaks its own standard over a TCP connection or a serial line.

An error of an engine ends the connection and is reported only by its type and its location in the code: its message
could contain bytes that the instrument sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Final, Protocol

from agents.box.intake.command_results import COMMAND_POLL_SECONDS
from agents.box.intake.intake import Intake, Note, Source
from hal.serial import FlowControl, Parity, SerialError, SerialErrorKind, SerialPort, SerialSettings
from settings.adapted import SerialLineSettings
from wire.audit_events import AuditEvent
from wire.process.transports import abort, probe_peer
from wire.standards.engine import Action, Close, CommandEnded, Commander, Count, Deliver, Engine, Send

READ_BYTES_MAX: Final = 2 * 1024
"""Maximum number of bytes in a read. Each byte may be answered and counted, so this limits the memory for answers
(256 KiB for each port).
"""
BUFFER_BYTES_MAX: Final = 16 * 1024
CLOSE_SECONDS_MAX: Final = 60.0
SERIAL_RETRY_SECONDS: Final = 5.0
"""Pause before a serial line that failed is opened again."""

MakeEngine = Callable[[float], Engine]
"""Creates the engine of a new connection; the argument is the time of the event loop."""


class InstrumentChannel(Protocol):
    """A byte stream to and from an instrument: a TCP connection or a serial line."""

    async def read(self) -> bytes:
        """Return the next bytes; empty at the end of the connection. Cancelling a read loses no data."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes. Raises: OSError."""
        ...


class TcpInstrumentChannel:
    """A TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        """Return the next bytes; empty at the end of the connection."""
        try:
            return await self._reader.read(READ_BYTES_MAX)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        """Send bytes. Raises: OSError."""
        self._writer.write(data)
        await self._writer.drain()

    def end(self) -> None:
        """Send the end of the stream; the other direction stays open."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        else:
            self._writer.close()

    async def close(self) -> None:
        """Send what has been written, for at most `CLOSE_SECONDS_MAX`, and close the connection."""
        self._writer.close()
        with suppress(OSError):  # includes TimeoutError
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                await self._writer.wait_closed()

    def abort(self) -> None:
        """Close the connection at once."""
        abort(self._writer.transport)


class SerialInstrumentChannel:
    """A serial line. Bytes lost by a line error are detected by the checksums of the standard."""

    def __init__(self, port: SerialPort) -> None:
        self._port = port

    async def read(self) -> bytes:
        """Return the next bytes; empty when the port has failed."""
        while True:
            try:
                return await self._port.read(READ_BYTES_MAX)
            except SerialError as error:
                if error.kind not in (SerialErrorKind.BREAK, SerialErrorKind.LINE):
                    return b""

    async def write(self, data: bytes) -> None:
        """Send bytes. Raises: OSError."""
        try:
            await self._port.write(data)
        except SerialError as error:
            raise OSError(str(error)) from None


class Adapter:
    """One instrument that speaks its own standard: its connections, one at a time."""

    def __init__(self, intake: Intake, source: Source, make_engine: MakeEngine, note: Note) -> None:
        self._intake, self._source, self._make_engine, self._note = intake, source, make_engine, note
        self._loop = asyncio.get_running_loop()
        self._current: asyncio.Task[None] | None = None
        self._poll_at = 0.0
        """The time of the connection's next check for commands."""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a TCP connection. It replaces an earlier one, whose instrument has restarted.

        Returns normally when it is cancelled, because Python 3.11's asyncio reports a cancelled handler as an error.
        """
        channel = TcpInstrumentChannel(reader, writer)
        probe_peer(writer.transport)
        previous, self._current = self._current, asyncio.current_task()
        with suppress(asyncio.CancelledError):
            try:
                if previous is not None:
                    previous.cancel()
                    await asyncio.wait((previous,))
                await self.converse(channel)
            finally:
                channel.abort()

    async def serve_serial(self, port: SerialPort, settings: SerialSettings) -> None:
        """Serve a serial line until cancelled; a failed port is opened again."""
        while True:
            try:
                port.open(settings)
                self._current = asyncio.current_task()
                await self.converse(SerialInstrumentChannel(port))
            except SerialError:
                pass
            finally:
                self._current = None
                port.close()
            self._note(AuditEvent.PORT_NOT_SERVED, port=self._source.port)
            await asyncio.sleep(SERIAL_RETRY_SECONDS)

    async def converse(self, channel: InstrumentChannel) -> None:
        """Exchange messages until the connection ends."""
        engine, source = self._make_engine(self._loop.time()), self._source
        source.is_connected = True
        try:
            await self._exchange(engine, channel)
        except Exception as error:
            if not isinstance(error, OSError):
                report_failure(error, source, self._note)
        finally:
            source.is_connected = False
            for action in engine.closed(self._loop.time()):
                if isinstance(action, Count):
                    source.counts[action.reason] += action.number
                elif isinstance(action, CommandEnded):
                    source.ended[action.command] = action.outcome

    async def _exchange(self, engine: Engine, channel: InstrumentChannel) -> None:
        while True:
            try:
                async with asyncio.timeout_at(self._wake(engine)):
                    data = await channel.read()
            except TimeoutError:
                now = self._loop.time()
                actions = engine.expired(now)
            else:
                if not data:
                    return
                self._source.last_byte_s = received = self._loop.time()
                actions = engine.receive(data, received)
            if not await self._execute(engine, channel, actions):
                return
            if self._loop.time() >= self._poll_at and not await self._send_commands(engine, channel):
                return

    def _wake(self, engine: Engine) -> float | None:
        deadline = engine.deadline
        if not isinstance(engine, Commander):
            return deadline
        return self._poll_at if deadline is None else min(deadline, self._poll_at)

    async def _send_commands(self, engine: Engine, channel: InstrumentChannel) -> bool:
        """Send waiting commands to the instrument; returns whether the connection continues."""
        self._poll_at = self._loop.time() + COMMAND_POLL_SECONDS
        if isinstance(engine, Commander):
            for command in self._source.queue.take(self._loop.time()):
                if await self._intake.begin_command(self._source, command.id):
                    actions = engine.command(command.id, command.verb, self._loop.time())
                    if not await self._execute(engine, channel, actions):
                        return False
        return True

    async def _execute(self, engine: Engine, channel: InstrumentChannel, actions: list[Action]) -> bool:
        """Execute actions and those that follow from them; returns whether the connection continues."""
        started = self._loop.time()
        while actions:
            following: list[Action] = []
            for action in actions:
                match action:
                    case Send(data, after_s):
                        await asyncio.sleep(max(0.0, started + after_s - self._loop.time()))
                        await channel.write(data)
                    case Deliver(extract, after_s):
                        await asyncio.sleep(max(0.0, started + after_s - self._loop.time()))
                        outcome = await self._intake.accept(self._source, extract)
                        following = engine.decided(outcome, self._loop.time())
                    case Count(reason, number):
                        self._source.counts[reason] += number
                    case CommandEnded(command, outcome):
                        self._source.ended[command] = outcome
                        await self._intake.store_results(self._source)
                    case Close():
                        return False
            actions = following
        self._intake.answered(self._source)
        return True


def report_failure(error: Exception, source: Source, note: Note) -> None:
    """Report an error of an engine without its message, which could contain an instrument's bytes."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    location = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else "unknown location"
    note(AuditEvent.ENGINE_FAILED, port=source.port)
    message = f"engine of instrument port {source.port}: {type(error).__name__} at {location}"
    asyncio.get_running_loop().call_exception_handler({"message": message})


def line_settings(line: SerialLineSettings) -> SerialSettings:
    """Convert the settings of a serial line in a site file to those of `hal.serial`."""
    return SerialSettings(
        line.baud, line.data_bits, Parity(line.parity), line.stop_bits, FlowControl(line.flow_control)
    )


async def listen(
    connected: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]],
    host: str,
    tcp_port: int,
) -> asyncio.Server:
    """Accept TCP connections of an instrument. Raises: OSError."""
    tasks: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # a separate task: before Python 3.12, asyncio reports the cancellation of a server's task as an error
        task = asyncio.ensure_future(connected(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return await asyncio.start_server(begin, host, tcp_port, limit=BUFFER_BYTES_MAX)


async def close(server: asyncio.Server) -> None:
    """Close the listener, without waiting for connections."""
    server.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(2.0):
            await server.wait_closed()
