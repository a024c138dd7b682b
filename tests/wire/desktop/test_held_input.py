from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wire.desktop.held_input import KEYS_MAX, HeldInput
from wire.desktop.rfb import InputEvent, KeyEvent, PointerEvent


def test_nothing_passes_without_control() -> None:
    held = HeldInput(has_control=False)
    assert held.event(KeyEvent(97, True)) == []
    assert held.event(PointerEvent(1, 5, 5)) == []
    assert held.release() == []


def test_keys_and_buttons_are_released_when_control_ends() -> None:
    held = HeldInput(has_control=True)
    for event in (KeyEvent(0xFFE3, True), KeyEvent(97, True), PointerEvent(1, 5, 6)):
        assert held.event(event) == [event]
    assert held.set_control(has_control=False) == [
        KeyEvent(97, False),
        KeyEvent(0xFFE3, False),
        PointerEvent(0, 5, 6),
    ]
    assert held.release() == []
    assert held.event(KeyEvent(97, True)) == []


def test_a_key_too_many_is_dropped() -> None:
    held = HeldInput(has_control=True)
    for key in range(KEYS_MAX):
        held.event(KeyEvent(key, True))
    assert held.event(KeyEvent(99, True)) == []
    assert held.event(KeyEvent(3, True)) == [KeyEvent(3, True)], "the key is already pressed"


EVENT = st.one_of(
    st.builds(KeyEvent, st.integers(0, 50), st.booleans()),
    st.builds(PointerEvent, st.integers(0, 255), st.integers(0, 9), st.integers(0, 9)),
    st.booleans(),
)


@given(st.lists(EVENT))
def test_after_the_end_the_instrument_has_nothing_pressed(events: list[InputEvent | bool]) -> None:
    held, keys, buttons = HeldInput(has_control=True), set[int](), 0
    passed: list[InputEvent] = []
    for event in events:
        passed += held.set_control(has_control=event) if isinstance(event, bool) else held.event(event)
    passed += held.release()
    for event in passed:
        if isinstance(event, PointerEvent):
            buttons = event.buttons
        elif event.is_down:
            keys.add(event.key)
        else:
            keys.discard(event.key)
    assert (keys, buttons) == (set(), 0)
