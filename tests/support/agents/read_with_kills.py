"""Reading a rotated log while the reader is killed at random moments."""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from agents.box.audit.log_cursor import PIECE_BYTES_MAX, LogCursor
from agents.box.audit.log_reader import LogPiece, LogProblem, LogReader
from tests.support.agents.rotated_log import RotatedLog

KILLS: Final = 10_000
FILES: Final = 4
"""The files that the rotation keeps."""


class Read(NamedTuple):
    """The number of lines written, of lines lost, and of pieces stored twice."""

    written: int
    lost: int
    twice: int


def drain(reader: LogReader) -> tuple[list[LogPiece], list[LogProblem]]:
    """Read and store until nothing is left; return the pieces and the problems."""
    stored: list[LogPiece] = []
    all_problems: list[LogProblem] = []
    while True:
        new, problems = reader.read(4096)
        for piece in new:
            reader.cursor.accept(*piece)
        stored += new
        all_problems += problems
        if not new and not problems:
            return stored, all_problems


def store(cursor: LogCursor, pieces: list[LogPiece]) -> list[LogPiece]:
    """Advance the cursor over stored pieces; return the pieces."""
    for piece in pieces:
        cursor.accept(*piece)
    return pieces


def read_with_kills(seed: int) -> Read:
    """Kill the reader KILLS times: between two groups that the spool stores, or while auditd writes a line."""
    random, log, stored = Random(seed), RotatedLog(), list[LogPiece]()
    cursor = LogCursor()
    for _ in range(KILLS):
        reader = LogReader(log, "audit.log", cursor.copy())
        action = random.random()
        if action < 0.08 and log.files["audit.log"].endswith(b"\n"):
            log.rotate()
            if len(log.files) > FILES:
                stored += store(cursor, drain(LogReader(log, "audit.log", cursor.copy()))[0])
                log.remove_oldest()
            continue
        line = b"" if action >= 0.7 else log.line(random.choice((0, 20, 90, 2 * PIECE_BYTES_MAX)))
        cut = random.randrange(len(line)) if line else 0
        log.write(line[:cut])
        read, problems = reader.read(4096)
        assert not problems
        stored += store(cursor, read[: random.randint(0, len(read))])
        log.write(line[cut:])
    stored += store(cursor, drain(LogReader(log, "audit.log", cursor.copy()))[0])
    written = log.written.splitlines()
    kept = b"".join(piece.content for piece in stored).splitlines()
    twice = len(stored) - len({(piece.file, piece.offset) for piece in stored})
    return Read(len(written), len(set(written) - set(kept)) or int(len(kept) != len(written)), twice)
