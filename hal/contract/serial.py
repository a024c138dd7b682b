"""Conformance checks of `hal.serial`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from hal.contract.wait import SECONDS_MAX
from hal.serial import SerialError, SerialErrorKind, SerialPort, SerialSettings

FAST = SerialSettings(baud=115_200)
EVERY_BYTE = bytes(range(256))


class SerialBench(Protocol):
    """A closed port, and a partner at the other end of the line with the settings `FAST`."""

    port: SerialPort
    impossible: SerialSettings
    """Settings that the port does not support."""

    async def send(self, data: bytes) -> None:
        """Have the partner send `data`."""
        ...

    async def receive(self, count: int) -> bytes:
        """Return the next `count` bytes that the partner receives."""
        ...

    async def inject_error(self, kind: SerialErrorKind) -> None:
        """Cause one BREAK, or one byte with a LINE error, at the port's receiver."""
        ...

    def occupy(self) -> None:
        """Have another program open the port."""
        ...

    def remove_device(self) -> None:
        """Remove the device permanently."""
        ...


async def _read_all(port: SerialPort, count: int) -> bytes:
    data = b""
    async with asyncio.timeout(SECONDS_MAX):
        while len(data) < count:
            data += await port.read(count - len(data))
    return data


async def _kind(reading: Awaitable[object]) -> SerialErrorKind | None:
    try:
        async with asyncio.timeout(SECONDS_MAX):
            await reading
    except SerialError as error:
        return error.kind
    return None


async def _kind_of_open(port: SerialPort, settings: SerialSettings) -> SerialErrorKind | None:
    try:
        port.open(settings)
    except SerialError as error:
        return error.kind
    return None


async def serial_carries_every_byte(bench: SerialBench) -> None:
    """All 256 byte values pass unchanged and in order, in both directions."""
    bench.port.open(FAST)
    await bench.send(EVERY_BYTE)
    assert await _read_all(bench.port, 256) == EVERY_BYTE
    await bench.port.write(EVERY_BYTE)
    await bench.port.write(b"more")
    assert await bench.receive(260) == EVERY_BYTE + b"more"
    bench.port.close()


async def serial_reads_at_most_the_limit(bench: SerialBench) -> None:
    """`read` returns at most `limit` bytes and keeps the rest for the next call."""
    bench.port.open(FAST)
    await bench.send(b"abcd")
    first = await bench.port.read(1)
    assert first == b"a"
    assert await _read_all(bench.port, 3) == b"bcd"
    bench.port.close()


async def serial_cancelled_read_loses_nothing(bench: SerialBench) -> None:
    """Bytes that arrive after a read was cancelled are returned by the next read."""
    bench.port.open(FAST)
    reading = asyncio.ensure_future(bench.port.read())
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await bench.send(b"late")
    assert await _read_all(bench.port, 4) == b"late"
    bench.port.close()


async def serial_reports_line_errors_in_order(bench: SerialBench) -> None:
    """Each line error is raised once, between the bytes before and after it."""
    bench.port.open(FAST)
    for kind in (SerialErrorKind.BREAK, SerialErrorKind.LINE):
        await bench.send(b"<")
        assert await _read_all(bench.port, 1) == b"<"
        await bench.inject_error(kind)
        await bench.send(b">")
        assert await _kind(bench.port.read()) is kind
        assert await _read_all(bench.port, 1) == b">"
    bench.port.close()


async def serial_refuses_unsupported_settings(bench: SerialBench) -> None:
    """Unsupported settings raise SETTINGS and leave the port closed."""
    assert await _kind_of_open(bench.port, bench.impossible) is SerialErrorKind.SETTINGS
    bench.port.open(FAST)
    bench.port.close()


async def serial_is_exclusive(bench: SerialBench) -> None:
    """Opening a port that another program has open raises BUSY."""
    bench.occupy()
    assert await _kind_of_open(bench.port, FAST) is SerialErrorKind.BUSY


async def serial_is_unavailable_when_closed(bench: SerialBench) -> None:
    """Closing ends a pending read with UNAVAILABLE, and every call until the port is reopened raises it."""
    bench.port.open(FAST)
    reading = asyncio.ensure_future(_kind(bench.port.read()))
    await asyncio.sleep(0)
    bench.port.close()
    bench.port.close()
    assert await reading is SerialErrorKind.UNAVAILABLE
    assert await _kind(bench.port.read()) is SerialErrorKind.UNAVAILABLE
    assert await _kind(bench.port.write(b"x")) is SerialErrorKind.UNAVAILABLE
    bench.port.open(FAST)
    await bench.send(b"again")
    assert await _read_all(bench.port, 5) == b"again"
    bench.port.close()


async def serial_is_unavailable_when_unplugged(bench: SerialBench) -> None:
    """Removing the device ends a pending read with UNAVAILABLE; `close` works, and `open` raises MISSING."""
    bench.port.open(FAST)
    reading = asyncio.ensure_future(_kind(bench.port.read()))
    await asyncio.sleep(0)
    bench.remove_device()
    assert await reading is SerialErrorKind.UNAVAILABLE
    assert await _kind(bench.port.write(b"x")) is SerialErrorKind.UNAVAILABLE
    bench.port.close()
    assert await _kind_of_open(bench.port, FAST) is SerialErrorKind.MISSING


SERIAL_CHECKS: tuple[Callable[[SerialBench], Awaitable[None]], ...] = (
    serial_carries_every_byte,
    serial_reads_at_most_the_limit,
    serial_cancelled_read_loses_nothing,
    serial_reports_line_errors_in_order,
    serial_refuses_unsupported_settings,
    serial_is_exclusive,
    serial_is_unavailable_when_closed,
    serial_is_unavailable_when_unplugged,
)
