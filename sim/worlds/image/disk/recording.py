"""A recording of the disk's writes and flushes, to reconstruct the disk after a power cut during any of these.

A machine that starts for a minute makes hundreds of flushes. With a recording of one start, a cut at each of them
needs no separate start: the requests before it are repeated on a copy of the medium, and `CachedDisk.cut_power` loses
the write cache. dm-log-writes of the Linux kernel serves the same purpose for file systems.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from sim.worlds.image.disk.cache import CachedDisk
from sim.worlds.image.disk.nbd import FLUSH, WRITE, DiskRequest

_HEAD: Final = struct.Struct(">QB?QI")
"""The time, the kind of request, its FUA flag, its offset and the length of its data, which follows."""


class RecordedRequest(NamedTuple):
    """A WRITE or FLUSH, and the time at which the disk received it, in ns since 1970."""

    at_ns: int
    request: DiskRequest

    @property
    def is_flush(self) -> bool:
        """Whether it is a flush."""
        return self.request.kind == FLUSH


class DiskRecorder:
    """Appends requests to a file, unbuffered, so that the recording is complete when the process is killed."""

    def __init__(self, file: Path, now_ns: Callable[[], int]) -> None:
        self._file, self._now_ns = file.open("ab", buffering=0), now_ns

    def add(self, request: DiskRequest) -> None:
        """Append a WRITE or FLUSH. Raises: OSError."""
        head = _HEAD.pack(self._now_ns(), request.kind, request.fua, request.offset, len(request.data))
        self._file.write(head + request.data)


def recorded(file: Path) -> Iterator[RecordedRequest]:
    """Yield the requests in a recording, in order. An incomplete last one is left out."""
    with file.open("rb") as source:
        while len(head := source.read(_HEAD.size)) == _HEAD.size:
            at_ns, kind, fua, offset, length = _HEAD.unpack(head)
            if len(data := source.read(length)) < length:
                return
            yield RecordedRequest(at_ns, DiskRequest(kind, offset, length, data, fua))


def cut_during(medium: Path, requests: Iterable[RecordedRequest], index: int, random: Random) -> None:
    """Turn `medium`, as it was before the recording, into the one after a power cut during the request `index`.

    Requests are counted from 0, and all requests before it have been executed. Of a WRITE, random sectors are on the
    medium; a FLUSH has no effect. If `index` is the number of requests, all have been executed.
    """
    fd = os.open(medium, os.O_RDWR | os.O_CLOEXEC)
    try:
        disk = CachedDisk(fd, lambda: 0)
        for number, (_, request) in enumerate(requests):
            if number == index:
                if request.kind == WRITE:
                    disk.tear(request.offset, request.data, random)
                break
            if request.kind == WRITE:
                disk.write(request.offset, request.data, fua=request.fua)
            else:
                disk.flush()
        disk.cut_power(random)
    finally:
        os.close(fd)
