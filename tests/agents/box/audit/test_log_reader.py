"""Reading a rotated log: each line is read once after any restart, and later changes to read lines are detected."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agents.box.audit.log_cursor import PIECE_BYTES_MAX, LogCursor, pieces
from agents.box.audit.log_reader import LogPiece, LogProblem, LogProblemKind, LogReader
from tests.support.agents.read_with_kills import FILES, drain, read_with_kills, store
from tests.support.agents.rotated_log import RotatedLog


def test_each_line_is_read_once_whenever_the_reader_is_killed() -> None:
    result = read_with_kills(seed=11)
    assert result.written > 1_000
    assert (result.lost, result.twice) == (0, 0)


def test_pieces_that_a_power_failure_has_destroyed_are_read_again() -> None:
    """The caller detects a lost piece by its sequence numbers, and marks the cursor as incomplete."""
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


def test_only_the_rotation_may_remove_the_oldest_file() -> None:
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


def test_the_order_of_files_is_not_checked_during_a_rotation() -> None:
    log = small_log()
    reader = LogReader(log, "audit.log", LogCursor(), files_max=3)
    drain(reader)
    log.files = {"audit.log": log.files["audit.log"], "audit.log.2": log.files["audit.log.1"]}
    assert not reader.check_order()


def test_the_loss_of_the_file_that_was_being_read_is_detected() -> None:
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
    """Yield a description and the files of the small log after each cut, edited byte, removed, repeated or
    exchanged line, and exchanged or removed file.
    """
    files = small_log().files
    for name, content in files.items():
        lines = content.splitlines(keepends=True)
        for offset in range(len(content)):
            yield f"{name} cut at byte {offset}", {**files, name: content[:offset]}
            edited = content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :]
            yield f"{name} edited at byte {offset}", {**files, name: edited}
        for index in range(len(lines)):
            yield (
                f"{name} without line {index}",
                {**files, name: b"".join(lines[:index] + lines[index + 1 :])},
            )
            if (name, index) != ("audit.log", 2):  # a line appended to the newest file is a new one
                yield (
                    f"{name} with line {index} twice",
                    {**files, name: b"".join([*lines[: index + 1], *lines[index:]])},
                )
            for earlier in range(index):
                moved = [*lines]
                moved[index], moved[earlier] = moved[earlier], moved[index]
                yield f"{name} with lines {earlier} and {index} exchanged", {**files, name: b"".join(moved)}
        for newer in files:
            if newer < name:
                yield f"{name} and {newer} exchanged", {**files, name: files[newer], newer: content}
    yield "the oldest removed", {name: files[name] for name in ("audit.log", "audit.log.1")}
    yield "the two oldest removed", {"audit.log": files["audit.log"]}
    yield "all removed", {"audit.log": b""}
    yield "the newest removed", {"audit.log": b"", "audit.log.1": files["audit.log.1"]}
    yield "the middle removed", {"audit.log": files["audit.log"], "audit.log.1": files["audit.log.2"]}


@pytest.mark.parametrize("lines_after", [0, 1])
def test_every_manipulation_of_read_lines_is_detected(lines_after: int) -> None:
    cursor = LogCursor()
    store(cursor, drain(LogReader(small_log(), "audit.log", LogCursor()))[0])
    missed = []
    for description, files in manipulations():
        log = small_log()
        log.files = dict(files)
        if lines_after:
            log.write(log.line())
        reader = LogReader(log, "audit.log", cursor.copy(), FILES)
        problems = [problem for file in reader.cursor.marks if (problem := reader.verify(file))]
        problems += reader.check_order()
        if not problems and not drain(reader)[1]:
            missed.append(description)
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


def test_pieces_do_not_depend_on_the_length_of_the_content() -> None:
    content = b"a\n" + b"b" * (2 * PIECE_BYTES_MAX) + b"\n" + b"c" * PIECE_BYTES_MAX + b"\nd\n"
    all_pieces = list(pieces(content))
    assert b"".join(all_pieces) == content
    for end in range(0, len(content), 37):
        assert all_pieces[: len(list(pieces(content[:end])))] == list(pieces(content[:end]))
