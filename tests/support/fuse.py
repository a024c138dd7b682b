"""A FUSE file system with one device file, implemented directly on /dev/fuse, for tests of real ioctl calls.

A test machine has no watchdog and no chassis switch. To a process that opens this file and calls `ioctl`, the file
behaves like a device: the kernel forwards the call to this server (<linux/fuse.h>; "restricted" ioctl, with size and
direction of the argument encoded in the request number). The file system has no mount point: it is reached through a
file descriptor in /proc/self/fd, and disappears when the descriptor is closed or the process dies.

The server is a separate process: a thread would be killed together with the caller that waits for its reply, and
the kernel waits for that reply. Test and server share the device's state in shared memory.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from multiprocessing import get_context
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import TypeVar

import pytest
from cffi import FFI

FILE = "device"
_ROOT_INODE, _FILE_INODE = 1, 2
_REQUEST_BYTES_MAX = 1 << 17
_NOTIFY_POLL = 1
_FOPEN_DIRECT_IO, _FOPEN_NONSEEKABLE, _FOPEN_NOFLUSH = 1, 4, 32
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CONFIG_STRING, _CONFIG_CREATE = 1, 6
_CLOSE_ON_EXEC = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC


class Op(IntEnum):
    """The part of `enum fuse_opcode` that one open file needs."""

    LOOKUP, FORGET, GETATTR, OPEN, READ, WRITE = 1, 2, 3, 14, 15, 16
    RELEASE, INIT, INTERRUPT, IOCTL, POLL = 18, 26, 36, 39, 40


_ffi = FFI()
_ffi.cdef("long syscall(long number, ...);")
_libc = _ffi.dlopen(None)


class Device(ctypes.Structure):
    """The device's behaviour and state; tests read and change the fields. An OSError is returned to the caller.

    Each opening of the file has another `handle`: 1, 2, 3, …
    """

    def open(self, handle: int) -> None: ...

    def close(self) -> None: ...

    def ioctl(self, request: int, argument: bytes) -> bytes:
        """Handle an ioctl; `argument` and the result have the length that is encoded in the request number."""
        raise OSError(errno.ENOTTY, "")

    def write(self, data: bytes) -> None:
        raise OSError(errno.EINVAL, "")

    def read(self, handle: int) -> bytes:
        """Return available data; raise EAGAIN if there is none."""
        raise OSError(errno.EAGAIN, "")

    def readable(self, handle: int) -> bool:
        return False


AnyDevice = TypeVar("AnyDevice", bound=Device)


@contextmanager
def device_file(kind: type[AnyDevice]) -> Iterator[tuple[AnyDevice, str]]:
    """Yield a new device with all fields zero, and its path. Skips the test where FUSE is unavailable."""
    try:
        channel = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"needs /dev/fuse: {error.strerror}")
    try:
        mount = _mount(channel)
        device = RawValue(kind)
        server = get_context("fork").Process(target=_serve, args=(channel, mount, device), daemon=True)
        server.start()
    finally:
        # the server has the only copy from here on: when it dies, the kernel fails all pending calls
        os.close(channel)
    try:
        yield device, f"/proc/self/fd/{mount}/{FILE}"
        assert not (left := _open_on(mount)), f"the test leaves the device open: descriptors {left}"
    finally:
        server.kill()
        server.join()
        os.close(mount)


def _open_on(mount: int) -> list[int]:
    """Return this process's descriptors on the file system, except for the one of its root."""
    left = []
    for number in (int(link.name) for link in Path("/proc/self/fd").iterdir()):
        with suppress(OSError):  # the descriptor that lists /proc/self/fd is closed
            if number != mount and os.fstat(number).st_dev == os.fstat(mount).st_dev:
                left.append(number)
    return left


def _serve(channel: int, mount: int, device: Device) -> None:
    os.close(mount)  # the test has the only copy: when the test dies, the kernel ends the connection
    _Server(channel, device).run()


def _mount(channel: int) -> int:
    """Return the root of a FUSE file system served over `channel`, as a file descriptor."""
    context = _call(_FSOPEN, _text("fuse"), _number(_CLOSE_ON_EXEC))
    options = {"source": "rap-test", "fd": channel, "rootmode": "40000", "user_id": 0, "group_id": 0}
    for key, value in options.items():
        _call(_FSCONFIG, _number(context), _number(_CONFIG_STRING), _text(key), _text(str(value)), _number(0))
    _call(_FSCONFIG, _number(context), _number(_CONFIG_CREATE), _ffi.NULL, _ffi.NULL, _number(0))
    mount = _call(_FSMOUNT, _number(context), _number(_CLOSE_ON_EXEC), _number(0))
    os.close(context)
    return mount


def _text(text: str) -> object:
    return _ffi.new("char[]", text.encode())


def _number(number: int) -> object:
    return _ffi.cast("long", number)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        pytest.skip(f"needs permission to mount FUSE: {os.strerror(_ffi.errno)}")
    return result


class _Server:
    """Answers the kernel's requests one at a time until the file system is unmounted."""

    def __init__(self, channel: int, device: Device) -> None:
        self._channel, self._device = channel, device
        self._handles = 0
        self._pollers: dict[int, int] = {}  # poll handles to notify when there is data, by file handle

    def run(self) -> None:
        while True:
            try:
                request = os.read(self._channel, _REQUEST_BYTES_MAX)
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted
                    return
                continue  # ENOENT: the caller was interrupted before the request was read
            self._serve(request)
            for handle in [handle for handle in self._pollers if self._device.readable(handle)]:
                os.write(self._channel, struct.pack("<IiQQ", 24, _NOTIFY_POLL, 0, self._pollers.pop(handle)))

    def _serve(self, request: bytes) -> None:
        _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
        if opcode in (Op.FORGET, Op.INTERRUPT):
            return
        try:
            answer, code = self._answer(opcode, node, request[40:]), 0
        except OSError as error:
            answer, code = b"", error.errno or errno.EIO
        with suppress(FileNotFoundError):  # the caller gave up meanwhile
            os.write(self._channel, struct.pack("<IiQ", 16 + len(answer), -code, unique) + answer)

    def _answer(self, opcode: int, node: int, body: bytes) -> bytes:
        (handle,) = struct.unpack_from("<Q", body.ljust(8))  # the first field of all requests that have one
        match opcode:
            case Op.INIT:
                return struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 0, 0, 1 << 16, 1, 0, 0, 0)
            case Op.LOOKUP:
                if body != FILE.encode() + b"\0":
                    raise OSError(errno.ENOENT, "")
                return struct.pack("<QQQQII", _FILE_INODE, 0, 0, 0, 0, 0) + _attributes(_FILE_INODE)
            case Op.GETATTR:
                return struct.pack("<QII", 0, 0, 0) + _attributes(node)
            case Op.OPEN:
                self._handles += 1
                self._device.open(self._handles)
                return struct.pack(
                    "<QII", self._handles, _FOPEN_DIRECT_IO | _FOPEN_NONSEEKABLE | _FOPEN_NOFLUSH, 0
                )
            case Op.READ:
                return self._device.read(handle)
            case Op.WRITE:
                data = body[40:]
                self._device.write(data)
                return struct.pack("<II", len(data), 0)
            case Op.IOCTL:
                return self._ioctl(body)
            case Op.POLL:
                readable = self._device.readable(handle)
                if not readable:
                    (self._pollers[handle],) = struct.unpack_from("<Q", body, 8)
                return struct.pack("<II", select.POLLIN if readable else 0, 0)
            case Op.RELEASE:
                self._pollers.pop(handle, None)
                self._device.close()
                return b""
        raise OSError(errno.ENOSYS, "")

    def _ioctl(self, body: bytes) -> bytes:
        _, _, request, _, in_size, out_size = struct.unpack_from("<QIIQII", body)
        result = self._device.ioctl(request, body[32 : 32 + in_size])
        assert len(result) == out_size, (hex(request), result)
        return struct.pack("<iIII", 0, 0, 0, 0) + result


def _attributes(node: int) -> bytes:
    """Return a `struct fuse_attr`."""
    mode = stat.S_IFDIR | 0o700 if node == _ROOT_INODE else stat.S_IFREG | 0o600
    return struct.pack("<QQQQQQIIIIIIIIII", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 0, 0)
