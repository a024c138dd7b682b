"""A desktop that is shown and operated only while at least two people watch it (four-eyes principle)."""

from __future__ import annotations

from typing import Final

from datacenter.desktop.receiver import DesktopObserver, ShownDesktop
from wire.desktop.held_input import HeldInput
from wire.desktop.picture import Picture
from wire.desktop.rfb import CursorShape, InputEvent
from wire.desktop.stream import Update

PEOPLE_MIN: Final = 2
ALONE: Final = " (a second person must watch)"


class SecondPersonDesktop:
    """A `ShownDesktop` that is black, and accepts no input, while fewer than two people watch it."""

    def __init__(self, inner: ShownDesktop) -> None:
        self._inner = inner
        self._people = 0
        self._held = HeldInput(has_control=False)
        self._observers: set[DesktopObserver] = set()
        inner.watch(self)

    @property
    def is_complete(self) -> bool:
        """Whether enough people watch it."""
        return self._people >= PEOPLE_MIN

    @property
    def picture(self) -> Picture:
        """The present picture, or a black one of its size."""
        shown = self._inner.picture
        return shown if self.is_complete else Picture(shown.width, shown.height)

    @property
    def cursor(self) -> CursorShape | None:
        """See `ShownDesktop.cursor`."""
        return self._inner.cursor if self.is_complete else None

    @property
    def note(self) -> str:
        """See `ShownDesktop.note`."""
        return self._inner.note if self.is_complete else ALONE

    def watch(self, observer: DesktopObserver) -> None:
        """See `ShownDesktop.watch`."""
        self._observers.add(observer)

    def unwatch(self, observer: DesktopObserver) -> None:
        """See `ShownDesktop.unwatch`."""
        self._observers.discard(observer)

    async def send(self, event: InputEvent) -> None:
        """Forward an event, unless only one person watches. Raises: OSError."""
        for passed in self._held.event(event):
            await self._inner.send(passed)

    async def set_people(self, people: int) -> None:
        """Set the number of people who watch it.

        If only one person is left, pressed keys and buttons are released. Raises: OSError.
        """
        was_complete, self._people = self.is_complete, people
        if was_complete == self.is_complete:
            return
        shown = self._inner.picture
        for observer in tuple(self._observers):
            observer.updated(Update(size=(shown.width, shown.height)))
        for event in self._held.set_control(has_control=self.is_complete):
            await self._inner.send(event)

    def updated(self, update: Update) -> None:
        """Inform the observers; while only one person watches, only about the size and the note."""
        passed = update if self.is_complete else Update(size=update.size)
        for observer in tuple(self._observers):
            observer.updated(passed)
