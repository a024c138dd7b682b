"""The result on the terminal fits 80 columns; a bar shows the progress of the lab."""

import io
from collections.abc import Callable

import msgspec
import pytest
from rich.console import Console

from sim.report.terminal import RunProgress, print_result
from sim.verdict.result import Result
from tests.support.sim.report_examples import bare, failing, hostile, passing

SECOND = 10**9


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    """Return a console, and the buffer to which it writes."""
    written = io.StringIO()
    screen = Console(
        file=written,
        width=80,
        force_terminal=terminal,
        color_system=None,
        legacy_windows=False,
        _environ={"TERM": "xterm"},  # rich draws no progress on a dumb terminal
    )
    return screen, written


def printed(result: Result) -> str:
    screen, written = console()
    print_result(result, screen)
    return written.getvalue()


@pytest.mark.parametrize("make", [passing, failing, bare, hostile])
def test_every_line_fits_80_columns(make: Callable[[], Result]) -> None:
    *lines, _replay = printed(make()).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80


def test_a_long_replay_command_is_printed_on_one_line() -> None:
    replay = f"rap lab run lab:{'eJw' * 200} --world virtual --seed 1"
    text = printed(msgspec.structs.replace(failing(), replay=replay))
    assert text.splitlines()[-1].strip() == replay


def test_a_pass_shows_limits_measurements_and_figures() -> None:
    text = printed(passing())
    assert "PASS" in text
    assert "✓  backlog_drained_within  ≤ 10 min  1 min 47 s" in text
    assert "✗" not in text
    assert passing().trace_sha256 in text


def test_a_failure_shows_its_reports_fault_and_replay_command() -> None:
    text = " ".join(printed(failing()).split())
    assert "FAIL" in text
    assert "✗ lost = 0 3" in text
    assert "the preceding fault: power-cut of box at 08:00:00" in text
    assert "CA-2041 run 1 number 1439 (status): made 07:59:40" in text
    assert failing().replay in text


def test_only_the_first_reports_of_a_failure_are_printed_and_the_others_counted() -> None:
    result = failing()
    many = msgspec.structs.replace(
        result.failures[0], reports=result.failures[0].reports * 4, reports_total=99
    )
    text = printed(msgspec.structs.replace(result, failures=(many,)))
    assert text.count("CA-2041") == 5
    assert "and 94 more reports" in text


def test_a_name_with_brackets_is_printed_unchanged() -> None:
    assert "[red]lab[/red]" in printed(msgspec.structs.replace(passing(), lab="[red]lab[/red]"))


def test_the_progress_bar_shows_lab_time_and_speed() -> None:
    (screen, written), now = console(terminal=True), [0.0]
    with RunProgress(screen, "[b]clinic", 3600 * SECOND, get_time=lambda: now[0]) as progress:
        now[0] = 2.0
        progress.update(1800 * SECOND, stored=1234, backlog=56)
    assert "00:30:00  900×  1\u2009234 records stored  56 wait" in written.getvalue()
    assert "[b]clinic" in written.getvalue()


def test_the_progress_bar_is_drawn_at_most_ten_times_a_second_and_at_the_end() -> None:
    (screen, written), now = console(terminal=True), [0.0]
    with RunProgress(screen, "clinic", 100 * SECOND, get_time=lambda: now[0]) as progress:
        for second in range(1, 100):
            now[0] = second / 1000
            progress.update(second * SECOND, stored=second, backlog=0)
        progress.update(100 * SECOND, stored=100, backlog=0)
    drawn = written.getvalue()
    assert " 1 records stored" in drawn
    assert " 50 records stored" not in drawn
    assert " 100 records stored" in drawn


def test_the_progress_bar_is_shown_only_on_a_terminal() -> None:
    screen, written = console()
    with RunProgress(screen, "clinic", SECOND) as progress:
        progress.update(SECOND, stored=1, backlog=0)
    assert written.getvalue() == ""
