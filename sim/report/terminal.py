"""Terminal output of a run: a progress bar while the lab runs, and the verdict at its end.

The output fits 80 columns. Texts from the lab file are printed as `rich.text.Text`, not as markup, so that brackets
in a name are printed literally.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from sim.report.explanation import contents_in_words, explanation
from sim.verdict import quantities
from sim.verdict.result import Expectation, Result

_REDRAW_S: Final = 0.1
_GOOD, _BAD, _QUIET = "bold green", "bold red", "dim"


def print_result(result: Result, console: Console) -> None:
    """Print the verdict, the expectations, the failures, the run's figures and the replay command."""
    console.print(verdict(result))
    console.print("\nReplay with")
    # one line regardless of the width, so that it can be copied
    console.print(Text(f"  {result.replay}", style="bold"), soft_wrap=True)


def verdict(result: Result) -> RenderableType:
    """Return the part of the output of `print_result` above the replay command."""
    parts: list[RenderableType] = [_banner(result), "", _expectations(result), "", _figures(result)]
    failed = [expectation for expectation in result.expectations if not expectation.holds]
    for expectation in failed:
        parts += ["", _failure(result, expectation)]
    return Group(*parts)


def _banner(result: Result) -> Text:
    style = _GOOD if result.verdict == "pass" else _BAD
    return Text.assemble(
        (f" {result.verdict.upper()} ", f"{style} reverse"),
        (f" {result.lab}", "bold"),
        (f"  {result.world} world, seed {result.seed}", _QUIET),
    )


def _expectations(result: Result) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=_QUIET)
    table.add_column("")
    table.add_column("Expectation", overflow="fold")
    table.add_column("Limit", justify="right")
    table.add_column("Measured", justify="right")
    for expectation in result.expectations:
        table.add_row(
            Text("✓", style=_GOOD) if expectation.holds else Text("✗", style=_BAD),
            Text.assemble(
                expectation.name, (f" {expectation.condition}" if expectation.condition else "", _QUIET)
            ),
            Text(quantities.limit(expectation)),
            Text(quantities.measured(expectation), style="" if expectation.holds else _BAD),
        )
    return table


def _figures(result: Result) -> Table:
    reports, uplink = result.reports, result.uplink
    counts = [f"{quantities.count(getattr(reports, name))} {name}" for name in reports.__struct_fields__]
    sizes = [f"{quantities.size(uplink.bytes_up)} up", f"{quantities.size(uplink.bytes_down)} down"]
    busy = f"busy {quantities.duration(uplink.seconds_busy * 1e9)}"
    lab, real = (quantities.duration(s * 1e9) for s in (result.sim_seconds, result.wall_seconds))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(Text("Reports", style=_QUIET), Text(f"{', '.join(counts[:4])}\n{', '.join(counts[4:])}"))
    if result.contents is not None:
        table.add_row(Text("Content", style=_QUIET), Text(contents_in_words(result.contents)))
    table.add_row(Text("Uplink", style=_QUIET), Text(", ".join([*sizes, busy])))
    table.add_row(
        Text("Time", style=_QUIET),
        Text(f"{lab} in {real}, {quantities.count(round(result.speed_up))}× real time"),
    )
    table.add_row(Text("Trace", style=_QUIET), Text(result.trace_sha256, overflow="fold"))
    return table


def _failure(result: Result, expectation: Expectation) -> RenderableType:
    heading = Text.assemble(("✗ ", _BAD), (expectation.name, "bold"))
    lines = [Text(line, overflow="fold") for line in explanation(result, expectation)]
    return Group(heading, *(Padding(line, (0, 0, 0, 2), expand=False) for line in lines))


class RunProgress:
    """A progress bar with lab time, speed-up, and the records stored and waiting; silent without a terminal.

        with RunProgress(console, "01-clinic-128k", duration_ns) as progress:
            progress.update(now_ns, stored=12, backlog=3)     # as often as is convenient

    It is drawn in `update`, at most ten times a second, and has no thread. `get_time` returns seconds of real time.
    """

    def __init__(
        self, console: Console, lab: str, duration_ns: int, *, get_time: Callable[[], float] = time.monotonic
    ) -> None:
        self._duration_ns = duration_ns
        self._get_time = get_time
        self._started = get_time()
        self._drawn: float | None = None
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=8),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not console.is_terminal,
            get_time=get_time,
        )
        shortened = lab if len(lab) <= 16 else lab[:15] + "…"
        self._task = self._progress.add_task(shortened, total=duration_ns, figures="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(self, now_ns: int, *, stored: int, backlog: int) -> None:
        """Show the lab time `now_ns` in ns, the number of records stored, and the number waiting on the box."""
        now = self._get_time()
        if self._drawn is not None and now - self._drawn < _REDRAW_S and now_ns < self._duration_ns:
            return
        self._drawn = now
        speed_up = now_ns / 1e9 / max(now - self._started, 1e-3)
        speed, stored_count, waiting = (
            quantities.count(number) for number in (round(speed_up), stored, backlog)
        )
        figures = f"{quantities.clock(now_ns)}  {speed}×  {stored_count} records stored  {waiting} wait"
        self._progress.update(self._task, completed=now_ns, figures=figures, refresh=True)
