"""The serial ports of a box's virtual machine, tested in QEMU with a boot sector that echoes each byte."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hal.serial import SerialError, SerialErrorKind, SerialSettings
from sim.worlds.image.machine import qemu
from sim.worlds.image.machine.serial_lines import SocketSerialPort, line_socket, serial_lines, uart_of
from tests.support.eventually import poll_until
from tests.support.paths import ROOT

SECONDS_MAX = 120.0
"""A guard against hanging on a busy machine; not a performance target."""
UART_PORTS = (0x3F8, 0x2F8, 0x3E8, 0x2E8)
DISK_BYTES = 1 << 20


def echo(uart: int) -> bytes:
    """Return a boot sector that echoes each byte that a UART receives (status register 5, bit 0: data ready)."""
    base = UART_PORTS[uart].to_bytes(2, "little")
    status = (UART_PORTS[uart] + 5).to_bytes(2, "little")
    # again: mov dx, status; in al, dx; test al, 1; jz again; mov dx, base; in al, dx; out dx, al; jmp again
    code = b"\xba" + status + bytes.fromhex("ec a801 74f8 ba") + base + bytes.fromhex("ec ee ebf1")
    return code.ljust(510, b"\0") + b"\x55\xaa"


@contextmanager
def machine(folder: Path, uarts: dict[int, int], uart: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run QEMU with these serial ports (UART by port number); yield its process, whose guest echoes on `uart`."""
    disk, socket, control = (folder / name for name in ("disk", "disk.sock", "control.sock"))
    disk.write_bytes(echo(uart).ljust(DISK_BYTES, b"\0"))
    command = [sys.executable, "-m", "sim.worlds.image.disk.server", *map(str, (disk, socket, control)), "1"]
    server = subprocess.Popen(command, cwd=ROOT)
    try:
        poll_until(control.exists)
        guest = subprocess.Popen(qemu.command("tcg", "bios", folder, socket, serial_lines(folder, uarts)))
        try:
            yield guest
        finally:
            guest.kill()
            guest.wait()
    finally:
        server.kill()
        server.wait()


async def echoed(port: SocketSerialPort, data: bytes) -> bytes:
    """Send data, and return its echo without the first byte.

    Bytes that arrive before the boot sector runs are lost; so the first byte is repeated until it is echoed.
    """
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            await port.write(data[:1])
            try:
                async with asyncio.timeout(1):
                    received = await port.read()
                    break
            except TimeoutError:
                continue
        await port.write(data[1:])
        while not received.endswith(data[1:]):
            received += await port.read()
    return received.lstrip(data[:1])


@pytest.mark.usefixtures("_machine")
@pytest.mark.kernel
@pytest.mark.parametrize(("number", "uart"), [(1, 0), (2, 1), (1, 3)])
def test_bytes_pass_between_an_instrument_and_the_uart_of_its_port(
    tmp_path: Path, number: int, uart: int
) -> None:
    port = SocketSerialPort("serial", line_socket(tmp_path, number))

    def opens() -> bool:
        """Return whether the line can be opened: QEMU makes the socket's file a moment before it listens."""
        try:
            port.open(SerialSettings())
        except SerialError as error:
            assert error.kind is SerialErrorKind.MISSING
            return False
        return True

    async def use() -> None:
        assert await echoed(port, b"\x05every byte: \x00\xff\r\n") == b"every byte: \x00\xff\r\n"
        guest.kill()
        guest.wait()
        with pytest.raises(SerialError) as caught:
            while True:
                await port.read()
        assert caught.value.kind is SerialErrorKind.UNAVAILABLE
        port.close()
        port.close()

    with machine(tmp_path, {number: uart}, uart) as guest:
        poll_until(opens, SECONDS_MAX)
        asyncio.run(use())


def test_a_box_without_power_has_no_line(tmp_path: Path) -> None:
    port = SocketSerialPort("serial1", line_socket(tmp_path, 1))
    with pytest.raises(SerialError, match="serial1: the box has no power") as caught:
        port.open(SerialSettings())
    assert caught.value.kind is SerialErrorKind.MISSING

    async def use() -> None:
        with pytest.raises(SerialError, match="closed"):
            await port.write(b"x")

    asyncio.run(use())


@pytest.mark.parametrize(
    ("device", "uart"),
    [
        ("/dev/ttyS0", 0),
        ("/dev/ttyS3", 3),
        ("/dev/ttyS4", None),
        ("/dev/ttyUSB0", None),
        ("/dev/ttyS01", None),
    ],
)
def test_the_uart_follows_from_the_name_of_the_device(device: str, uart: int | None) -> None:
    assert uart_of(device) == uart


@pytest.mark.parametrize(
    ("uarts", "console"), [({}, 0), ({1: 1}, 0), ({1: 0}, 1), ({1: 0, 2: 1}, 2), ({3: 0, 1: 2, 2: 1}, 3)]
)
def test_the_console_is_the_first_serial_port_that_no_instrument_uses(
    uarts: dict[int, int], console: int
) -> None:
    arguments = serial_lines(Path("/x"), uarts)
    assert f"isa-serial,chardev=console,index={console}" in arguments
    for number, uart in uarts.items():
        assert f"isa-serial,chardev=serial-{number},index={uart}" in arguments
