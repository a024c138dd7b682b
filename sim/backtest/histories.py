"""Simulated histories of instruments, kept in files, because an instrument-year takes seconds to simulate.

A file has the statuses in chunks of the data center's format, the other reports, and the ground truth about the
parts. Its name contains a digest of the simulator's source text, so that a change of the simulator makes new files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from heapq import merge
from pathlib import Path
from typing import Final

import msgspec

from datacenter.history.chunk import decode_chunk, encode_chunk
from datacenter.history.statuses import Statuses
from settings.profile import DIRECTORY
from sim.instruments.history import History
from sim.instruments.physics.part_wear import PartWear
from sim.units import DAY_NS
from wire.messages import Alert, Calibration, InstrumentReport, Inventory, Quality, Status

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK_DAYS: Final = 30
SERIAL: Final = "SIM-0001"
_SOURCES: Final = ("instruments/*.py", "instruments/models/*.py", "instruments/physics/*.py", "engine/*.py")


class _Content(msgspec.Struct, frozen=True, array_like=True):
    """The content of a file."""

    statuses: list[bytes]
    others: bytes
    """The other reports in MessagePack, compressed."""
    wear: tuple[PartWear, ...]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Content).decode
_decode_others: Final = msgspec.msgpack.Decoder(list[Inventory | Quality | Calibration | Alert]).decode


@dataclass(frozen=True)
class SimulatedHistory:
    """The history of one instrument from time 0 on, and the ground truth about its parts."""

    model: str
    seed: int
    days: int
    wear: tuple[PartWear, ...]
    _content: _Content

    def statuses(self) -> Iterator[Statuses]:
        """Return the statuses in chunks, in the order of their numbers."""
        return map(decode_chunk, self._content.statuses)

    def others(self) -> list[InstrumentReport]:
        """Return the other reports, in the order of their numbers."""
        return list(_decode_others(zstd.decompress(self._content.others)))

    def reports(self) -> Iterator[InstrumentReport]:
        """Return all reports in the order of their numbers."""
        statuses = (status for chunk in self.statuses() for _, status in chunk.reports())
        return merge(statuses, self.others(), key=lambda report: report.number)


def simulated_history(model: str, seed: int, days: int, folder: Path) -> SimulatedHistory:
    """Return the history of an instrument by model and seed, from `folder`, or simulated and written to it.

    Raises: OSError.
    """
    file = folder / f"{model}-{seed}-{days}d-{_sources_digest()}.history"
    try:
        content = _decode(file.read_bytes())
    except (FileNotFoundError, msgspec.DecodeError):
        content = _simulate(model, seed, days)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(_encode(content))
        temporary.replace(file)
    return SimulatedHistory(model, seed, days, content.wear, content)


def _simulate(model: str, seed: int, days: int) -> _Content:
    history = History(model, SERIAL, seed)
    chunks: list[bytes] = []
    others: list[InstrumentReport] = []
    for end_day in range(CHUNK_DAYS, days + CHUNK_DAYS, CHUNK_DAYS):
        statuses = []
        for report in history.until(min(end_day, days) * DAY_NS):
            if isinstance(report, Status):
                statuses.append((1, report))
            else:
                others.append(report)
        chunks.append(encode_chunk(Statuses.of(statuses)))
    return _Content(chunks, zstd.compress(_encode(others)), history.wear())


def source_files() -> list[Path]:
    """Return the files that determine a history, sorted: the simulator of instruments, and the profiles."""
    simulator = Path(__file__).parent.parent
    files = [file for pattern in _SOURCES for file in simulator.glob(pattern)]
    return sorted([*files, *DIRECTORY.glob("*.toml")])


@cache
def _sources_digest() -> str:
    """Return a digest of `source_files`."""
    text = b"".join(file.name.encode() + file.read_bytes() for file in source_files())
    return sha256(text).hexdigest()[:12]
