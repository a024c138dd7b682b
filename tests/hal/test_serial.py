"""Both serial ports pass the conformance suite: the emulated one, and the Linux one on a pseudo-terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import termios
from collections.abc import Awaitable, Callable, Iterator

import pytest

from hal.contract.serial import FAST, SERIAL_CHECKS
from hal.contract.wait import wait_until
from hal.emul.serial import BAUD_MAX, EmulSerialPort
from hal.linux.serial import LinuxSerialPort, decode_marks
from hal.serial import Parity, SerialError, SerialErrorKind, SerialSettings


class EmulSerialBench:
    impossible = SerialSettings(baud=2 * BAUD_MAX)

    def __init__(self) -> None:
        self.port, self._partner = EmulSerialPort("serial1"), EmulSerialPort("instrument")
        self.port.backend.connect(self._partner)
        self._partner.open(FAST)
        self.remove_device = self.port.backend.remove_device

    async def send(self, data: bytes) -> None:
        await self._partner.write(data)

    async def receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += await self._partner.read(count - len(data))
        return data

    async def inject_error(self, kind: SerialErrorKind) -> None:
        if kind is SerialErrorKind.BREAK:
            self.port.backend.send_break()
        else:
            self.port.backend.corrupt(1)
            await self.send(b"?")

    def occupy(self) -> None:
        self.port.backend.busy = True


class PtyBench:
    """The port is a pseudo-terminal, which supports neither parity nor two stop bits; the partner is its master."""

    impossible = SerialSettings(parity=Parity.EVEN)

    def __init__(self) -> None:
        self._master, self._slave = pty.openpty()
        os.set_blocking(self._master, False)
        self._device = os.ttyname(self._slave)
        self.port = LinuxSerialPort("serial1", self._device)

    async def send(self, data: bytes) -> None:
        os.write(self._master, data)

    async def receive(self, count: int) -> bytes:
        data = bytearray()

        def enough() -> bool:
            with contextlib.suppress(BlockingIOError):
                data.extend(os.read(self._master, count - len(data)))
            return len(data) == count

        await wait_until(enough)
        return bytes(data)

    async def inject_error(self, kind: SerialErrorKind) -> None:
        """Send the bytes with which PARMRK marks a line error; PARMRK is off, or the kernel would escape them."""
        attributes = termios.tcgetattr(self._slave)
        attributes[0] &= ~termios.PARMRK
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)
        await self.send(b"\xff\x00" + (b"\x00" if kind is SerialErrorKind.BREAK else b"?"))

    def occupy(self) -> None:
        self._other = LinuxSerialPort("other", self._device)
        self._other.open(FAST)

    def remove_device(self) -> None:
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1

    def close(self) -> None:
        for fd in (self._master, self._slave):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def pseudo_terminal() -> Iterator[PtyBench]:
    bench = PtyBench()
    yield bench
    bench.close()


each_check = pytest.mark.parametrize("check", SERIAL_CHECKS, ids=lambda check: check.__name__)


@each_check
def test_emul_serial(check: Callable[..., object]) -> None:
    async def run() -> None:
        await check(EmulSerialBench())  # type: ignore[misc]

    asyncio.run(run())


@each_check
def test_linux_serial(check: Callable[..., object], pseudo_terminal: PtyBench) -> None:
    asyncio.run(check(pseudo_terminal))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raw", "pieces", "incomplete"),
    [
        (b"", [], b""),
        (b"abc", [b"abc"], b""),
        (b"a\xff\xffb", [b"a", b"\xff", b"b"], b""),
        (b"\xff\xff\x00A", [b"\xff", b"\x00A"], b""),
        (b"\xff\x00\x00\xff\x00\xff", [SerialErrorKind.BREAK, SerialErrorKind.LINE], b""),
        (b"\xff\x00\n.", [SerialErrorKind.LINE, b"."], b""),
        (b"a\xff", [b"a"], b"\xff"),
        (b"a\xff\x00", [b"a"], b"\xff\x00"),
    ],
)
def test_marks_in_the_input_are_decoded(raw: bytes, pieces: list[object], incomplete: bytes) -> None:
    assert decode_marks(raw) == (pieces, incomplete)


def test_writing_waits_while_the_buffer_is_full(pseudo_terminal: PtyBench) -> None:
    """The writer blocks when the pseudo-terminal's buffer is full, and no data is lost."""

    async def run() -> bytes:
        pseudo_terminal.port.open(FAST)
        writing = asyncio.ensure_future(pseudo_terminal.port.write(data))
        await asyncio.sleep(0)
        assert not writing.done()
        received = b""
        while len(received) < len(data):
            received += await pseudo_terminal.receive(min(1024, len(data) - len(received)))
            await asyncio.sleep(0)
        await writing
        pseudo_terminal.port.close()
        return received

    data = bytes(range(251)) * 1000
    assert asyncio.run(run()) == data


@pytest.mark.parametrize("device", ["/dev/null", "/dev/nothere9", "/dev"])
def test_a_device_that_is_not_a_serial_port_is_reported_missing(device: str) -> None:
    with pytest.raises(SerialError, match=rf"serial1 \({device}\)") as caught:
        LinuxSerialPort("serial1", device).open(FAST)
    assert caught.value.kind is SerialErrorKind.MISSING


def emulated(check: Callable[[EmulSerialPort, EmulSerialPort], Awaitable[None]]) -> None:
    async def run() -> None:
        port, partner = EmulSerialPort("a"), EmulSerialPort("b")
        port.backend.connect(partner)
        await check(port, partner)

    asyncio.run(run())


def test_different_settings_cause_line_errors() -> None:
    async def check(port: EmulSerialPort, partner: EmulSerialPort) -> None:
        port.open(FAST)
        partner.open(SerialSettings(baud=57_600))
        await partner.write(b"?")
        with pytest.raises(SerialError) as caught:
            await port.read()
        assert caught.value.kind is SerialErrorKind.LINE

    emulated(check)


def test_data_sent_while_the_cable_is_unplugged_is_lost() -> None:
    async def check(port: EmulSerialPort, partner: EmulSerialPort) -> None:
        port.open(FAST)
        partner.open(FAST)
        await partner.write(b"lost")
        partner.backend.disconnect()
        await partner.write(b"lost too")
        partner.backend.connect(port)
        await partner.write(b"arrived")
        assert await port.read() == b"arrived"

    emulated(check)
