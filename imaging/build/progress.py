"""Progress of a build on standard error: a bar with the current step and the last line of output."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

STEPS: Final = ("packages", "system", "disk", "outputs")
LINE_MAX: Final = 60


class BuildProgress:
    """A context manager that shows progress; without a terminal, it prints a line for each step."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(20),
            TimeElapsedColumn(),
            TextColumn("{task.fields[output]}"),
        )
        self._console = console
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task("", total=len(STEPS), output="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._progress.update(self._task, completed=len(STEPS), output="")
        self._progress.stop()

    def step(self, name: str, kept: bool) -> None:
        """Show that a step begins, or that its earlier result is reused (`kept`)."""
        output = "kept from an earlier build" if kept else ""
        self._progress.update(self._task, description=name, completed=STEPS.index(name), output=output)
        if not self._console.is_terminal:
            self._console.print(f"{name}{': ' + output if output else ''}")

    def log(self, line: str) -> None:
        """Show a line of output."""
        self._progress.update(self._task, output=Text(line[:LINE_MAX], style="dim").plain)
