"""Reading a rotated log: each line once after any restart, and every later change of what was read is found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agents.box.audit.log_cursor import PIECE_BYTES_MAX, LogCursor, pieces
from agents.box.audit.log_reader import LogPiece, LogProblem, LogProblemKind, LogReader
from tests.support.agents.read_with_kills import FILES, drain, read_with_kills, store
from tests.support.agents.rotated_log import RotatedLog


def test_each_line_is_read_once_whenever_the_reader_is_killed() -> None:
    found = read_with_kills(seed=11)
    assert found.written > 1_000
    assert (found.lost, found.twice) == (0, 0)


def test_pieces_that_a_power_failure_has_destroyed_are_read_again() -> None:
    """For every lost piece and every beginning of a file; the caller detects losses by its own numbers."""
    log = small_log()
    read, _ = drain(LogReader(log, "audit.log", LogCursor()))
    for lost in range(len(read)):
        cursor = cursor_of(read[:lost])
        cursor.is_incomplete = True
        store(cursor, read[lost + 1 :])
        cursor.is_incomplete = False
        again, problems = drain(LogReader(log, "audit.log", cursor))
        assert again == read[lost:]
        assert not problems


def test_rsyslog_5771_a_lost_cursor_gives_the_same_pieces_again() -> None:
    log = small_log()
    first, _ = drain(LogReader(log, "audit.log", LogCursor()))
    log.write(log.line())
    log.rotate()
    again, problems = drain(LogReader(log, "audit.log", LogCursor()))
    assert not problems
    assert again[: len(first)] == first
    assert len(again) == len(first) + 1


def test_a_rotation_while_a_file_is_read_loses_nothing() -> None:
    log = small_log()

    class Rotating(RotatedLog):
        def read(self, name: str, offset: int, length: int) -> bytes:
            content = log.read(name, offset, length)
            if self.rotations and offset:
                self.rotations -= 1
                log.rotate()
                log.write(log.line())
            return content

        rotations = 3
        size, names = staticmethod(log.size), staticmethod(log.names)

    stored, problems = drain(LogReader(Rotating(), "audit.log", LogCursor()))
    more, _ = drain(LogReader(log, "audit.log", LogReader(log, "audit.log", cursor_of(stored)).cursor))
    assert not problems
    assert b"".join(piece.content for piece in stored + more) == log.written


def cursor_of(stored: list[LogPiece]) -> LogCursor:
    cursor = LogCursor()
    store(cursor, stored)
    return cursor


def test_a_line_that_was_cut_off_by_a_power_failure_is_read_once_its_file_is_rotated() -> None:
    log = RotatedLog()
    reader = LogReader(log, "audit.log", LogCursor())
    log.write(log.line() + b"type=SYSC")
    assert [piece.content for piece in drain(reader)[0]] == [log.written.splitlines(keepends=True)[0]]
    log.rotate()
    log.write(log.line())
    assert (
        b"".join(piece.content for piece in drain(reader)[0])
        == log.written[-len(log.files["audit.log"]) - 9 :]
    )


def test_nothing_is_lost_when_read_files_are_removed_by_the_rotation() -> None:
    log = small_log()
    reader = LogReader(log, "audit.log", LogCursor())
    drain(reader)
    log.remove_oldest()
    log.rotate()
    log.write(log.line())
    stored, problems = drain(reader)
    assert len(stored) == 1
    assert not problems


def test_the_rotation_removes_the_oldest_file_and_nobody_else() -> None:
    log = small_log()
    reader = LogReader(log, "audit.log", LogCursor(), files_max=3)
    for _ in range(5):
        assert not drain(reader)[1]
        log.rotate()
        log.remove_oldest()
        assert not reader.check_order()
        log.write(log.line())
    log.remove_oldest()
    assert reader.check_order() == [LogProblem(LogProblemKind.REMOVED, 1)]
    assert not reader.check_order(), "reported once"


def test_a_log_that_is_being_rotated_is_not_judged() -> None:
    log = small_log()
    reader = LogReader(log, "audit.log", LogCursor(), files_max=3)
    drain(reader)
    log.files = {"audit.log": log.files["audit.log"], "audit.log.2": log.files["audit.log.1"]}
    assert not reader.check_order()


def test_the_loss_of_the_file_that_was_being_read_is_found() -> None:
    log = small_log()
    reader = LogReader(log, "audit.log", LogCursor())
    drain(reader)
    log.files = {"audit.log": log.line()}
    stored, problems = drain(reader)
    assert problems == [LogProblem(LogProblemKind.LOST, 1)]
    assert len(stored) == 1


def small_log() -> RotatedLog:
    """Return a log of three files of three lines."""
    log = RotatedLog()
    for _ in range(2):
        log.write(log.line() + log.line() + log.line())
        log.rotate()
    log.write(log.line() + log.line() + log.line())
    return log


def manipulations() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield every cut, edit of a byte, removal and exchange of lines, and exchange or removal of files of the
    small log.
    """
    files = small_log().files
    for name, content in files.items():
        lines = content.splitlines(keepends=True)
        for at in range(len(content)):
            yield f"{name} cut at byte {at}", {**files, name: content[:at]}
            edited = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
            yield f"{name} edited at byte {at}", {**files, name: edited}
        for at in range(len(lines)):
            yield f"{name} without line {at}", {**files, name: b"".join(lines[:at] + lines[at + 1 :])}
            if (name, at) != ("audit.log", 2):  # a line at the end of the newest file is a new one
                yield (
                    f"{name} with line {at} twice",
                    {**files, name: b"".join([*lines[: at + 1], *lines[at:]])},
                )
            for other in range(at):
                moved = [*lines]
                moved[at], moved[other] = moved[other], moved[at]
                yield f"{name} with lines {other} and {at} exchanged", {**files, name: b"".join(moved)}
        for newer in files:
            if newer < name:
                yield f"{name} and {newer} exchanged", {**files, name: files[newer], newer: content}
    yield "the oldest removed", {name: files[name] for name in ("audit.log", "audit.log.1")}
    yield "the two oldest removed", {"audit.log": files["audit.log"]}
    yield "all removed", {"audit.log": b""}
    yield "the newest removed", {"audit.log": b"", "audit.log.1": files["audit.log.1"]}
    yield "the middle removed", {"audit.log": files["audit.log"], "audit.log.1": files["audit.log.2"]}


@pytest.mark.parametrize("lines_after", [0, 1])
def test_every_manipulation_of_what_was_read_is_found(lines_after: int) -> None:
    cursor = LogCursor()
    store(cursor, drain(LogReader(small_log(), "audit.log", LogCursor()))[0])
    missed = []
    for what, files in manipulations():
        log = small_log()
        log.files = dict(files)
        if lines_after:
            log.write(log.line())
        reader = LogReader(log, "audit.log", cursor.copy(), FILES)
        problems = [problem for file in reader.cursor.marks if (problem := reader.verify(file))]
        problems += reader.check_order()
        if not problems and not drain(reader)[1]:
            missed.append(what)
    assert not missed


def test_a_problem_is_reported_once() -> None:
    log = small_log()
    reader = LogReader(log, "audit.log", LogCursor())
    drain(reader)
    log.files["audit.log"] = log.files["audit.log"][:-9]
    assert [problem.kind for problem in drain(reader)[1]] == [LogProblemKind.CUT]
    changed = log.files["audit.log.1"]
    log.files["audit.log.1"] = changed[:-3] + b"y" + changed[-2:]
    files = list(reader.cursor.marks)
    assert [problem.kind for file in files if (problem := reader.verify(file))] == [LogProblemKind.CHANGED]
    assert not any(reader.verify(file) for file in files)
    assert not drain(reader)[1]


def test_pieces_do_not_depend_on_how_much_was_there() -> None:
    content = b"a\n" + b"b" * (2 * PIECE_BYTES_MAX) + b"\n" + b"c" * PIECE_BYTES_MAX + b"\nd\n"
    whole = list(pieces(content))
    assert b"".join(whole) == content
    for end in range(0, len(content), 37):
        assert whole[: len(list(pieces(content[:end])))] == list(pieces(content[:end]))
