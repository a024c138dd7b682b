"""The keys and buttons that a session holds down, so that they are released when it ends or becomes view-only."""

from __future__ import annotations

from typing import Final

from wire.desktop.rfb import InputEvent, KeyEvent, PointerEvent

KEYS_MAX: Final = 32
"""Maximum number of keys held at a time; further ones are dropped."""


class HeldInput:
    """Passes input events while the session has control, and tracks held keys and buttons."""

    def __init__(self, *, has_control: bool) -> None:
        self._has_control = has_control
        self._keys: dict[int, None] = {}
        self._pointer = PointerEvent(0, 0, 0)

    @property
    def has_control(self) -> bool:
        """Whether input events pass."""
        return self._has_control

    def event(self, event: InputEvent) -> list[InputEvent]:
        """Return the event; nothing without control, for a key above the limit, or for a release of an unheld key."""
        if not self._has_control:
            return []
        if isinstance(event, PointerEvent):
            self._pointer = event
        elif not event.is_down:
            if event.key not in self._keys:
                return []  # a key held down by the person at the instrument stays held
            del self._keys[event.key]
        elif event.key in self._keys or len(self._keys) < KEYS_MAX:
            self._keys[event.key] = None
        else:
            return []
        return [event]

    def set_control(self, *, has_control: bool) -> list[InputEvent]:
        """Give or take control. Returns the events to send: without control, all keys and buttons are released."""
        self._has_control = has_control
        return [] if has_control else self.release()

    def release(self) -> list[InputEvent]:
        """Return the events that release everything, the last key first."""
        events: list[InputEvent] = [KeyEvent(key, is_down=False) for key in reversed(self._keys)]
        if self._pointer.buttons:
            self._pointer = self._pointer._replace(buttons=0)
            events.append(self._pointer)
        self._keys.clear()
        return events
