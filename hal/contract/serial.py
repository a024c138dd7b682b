"""What `hal.serial` promises."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from hal.contract.patience import SECONDS_MAX
from hal.serial import SerialError, SerialErrorKind, SerialPort, SerialSettings

FAST = SerialSettings(baud=115_200)
EVERY_BYTE = bytes(range(256))


class SerialBench(Protocol):
    """A closed port with a partner at the other end of the line, which is set as `FAST` says."""

    port: SerialPort
    impossible: SerialSettings
    """Settings that the port cannot do."""

    async def say(self, data: bytes) -> None:
        """Let the partner send."""
        ...

    async def hear(self, count: int) -> bytes:
        """The next `count` bytes that the partner receives."""
        ...

    async def disturb(self, kind: SerialErrorKind) -> None:
        """Let the port hear one BREAK, or one byte with a LINE error."""
        ...

    def occupy(self) -> None:
        """Let another program have the port."""
        ...

    def vanish(self) -> None:
        """Take the device away, for good."""
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
    """Both ways, all 256 of them unchanged, and in order."""
    bench.port.open(FAST)
    await bench.say(EVERY_BYTE)
    assert await _read_all(bench.port, 256) == EVERY_BYTE
    await bench.port.write(EVERY_BYTE)
    await bench.port.write(b"more")
    assert await bench.hear(260) == EVERY_BYTE + b"more"
    bench.port.close()


async def serial_reads_at_most_the_limit(bench: SerialBench) -> None:
    """And keeps the rest for the next time."""
    bench.port.open(FAST)
    await bench.say(b"abcd")
    first = await bench.port.read(1)
    assert first == b"a"
    assert await _read_all(bench.port, 3) == b"bcd"
    bench.port.close()


async def serial_cancelled_read_loses_nothing(bench: SerialBench) -> None:
    """What comes after a reader gave up is there for the next one."""
    bench.port.open(FAST)
    reading = asyncio.ensure_future(bench.port.read())
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await bench.say(b"late")
    assert await _read_all(bench.port, 4) == b"late"
    bench.port.close()


async def serial_tells_line_errors_in_their_place(bench: SerialBench) -> None:
    """Once each, between the bytes before and the bytes after."""
    bench.port.open(FAST)
    for kind in (SerialErrorKind.BREAK, SerialErrorKind.LINE):
        await bench.say(b"<")
        assert await _read_all(bench.port, 1) == b"<"
        await bench.disturb(kind)
        await bench.say(b">")
        assert await _kind(bench.port.read()) is kind
        assert await _read_all(bench.port, 1) == b">"
    bench.port.close()


async def serial_refuses_what_it_cannot_do(bench: SerialBench) -> None:
    """SETTINGS, and the port is as closed as before."""
    assert await _kind_of_open(bench.port, bench.impossible) is SerialErrorKind.SETTINGS
    bench.port.open(FAST)
    bench.port.close()


async def serial_belongs_to_one(bench: SerialBench) -> None:
    """BUSY while another program has it."""
    bench.occupy()
    assert await _kind_of_open(bench.port, FAST) is SerialErrorKind.BUSY


async def serial_is_gone_when_closed(bench: SerialBench) -> None:
    """A read under way ends with GONE, as does every call until the port is opened again; twice is harmless."""
    bench.port.open(FAST)
    reading = asyncio.ensure_future(_kind(bench.port.read()))
    await asyncio.sleep(0)
    bench.port.close()
    bench.port.close()
    assert await reading is SerialErrorKind.GONE
    assert await _kind(bench.port.read()) is SerialErrorKind.GONE
    assert await _kind(bench.port.write(b"x")) is SerialErrorKind.GONE
    bench.port.open(FAST)
    await bench.say(b"again")
    assert await _read_all(bench.port, 5) == b"again"
    bench.port.close()


async def serial_is_gone_when_unplugged(bench: SerialBench) -> None:
    """A read under way ends with GONE, and the port can be closed; opening it says MISSING."""
    bench.port.open(FAST)
    reading = asyncio.ensure_future(_kind(bench.port.read()))
    await asyncio.sleep(0)
    bench.vanish()
    assert await reading is SerialErrorKind.GONE
    assert await _kind(bench.port.write(b"x")) is SerialErrorKind.GONE
    bench.port.close()
    assert await _kind_of_open(bench.port, FAST) is SerialErrorKind.MISSING


SERIAL_CHECKS: tuple[Callable[[SerialBench], Awaitable[None]], ...] = (
    serial_carries_every_byte,
    serial_reads_at_most_the_limit,
    serial_cancelled_read_loses_nothing,
    serial_tells_line_errors_in_their_place,
    serial_refuses_what_it_cannot_do,
    serial_belongs_to_one,
    serial_is_gone_when_closed,
    serial_is_gone_when_unplugged,
)
