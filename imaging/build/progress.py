"""What a person sees while an image is built: a bar a step, and what the program said last; on standard error."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

STEPS: Final = ("packages", "system", "disk", "beside")
LINE_MAX: Final = 60


class Shown:
    """Progress as a context; without a terminal, one line a step."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(20),
            TimeElapsedColumn(),
            TextColumn("{task.fields[said]}"),
        )
        self._console = console
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task("", total=len(STEPS), said="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._progress.update(self._task, completed=len(STEPS), said="")
        self._progress.stop()

    def step(self, name: str, kept: bool) -> None:
        """A step begins, or its result was kept from before."""
        said = "kept from before" if kept else ""
        self._progress.update(self._task, description=name, completed=STEPS.index(name), said=said)
        if not self._console.is_terminal:
            self._console.print(f"{name}{': ' + said if said else ''}")

    def told(self, line: str) -> None:
        """What the running program said."""
        self._progress.update(self._task, said=Text(line[:LINE_MAX], style="dim").plain)
