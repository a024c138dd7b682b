"""With the four-eyes principle, a single viewer sees a black desktop, and their input is dropped."""

from __future__ import annotations

import asyncio

from datacenter.desktop.decoder import PictureDecoder
from datacenter.desktop.receiver import DecodedDesktop
from datacenter.desktop.second_person import ALONE, SecondPersonDesktop
from tests.support.desktop.session import rfb_viewer
from tests.support.eventually import eventually
from wire.desktop.picture import Area, Picture
from wire.desktop.rfb import InputEvent, KeyEvent
from wire.desktop.stream import Update

GREEN = 0x00FF00


class Inner(DecodedDesktop):
    """A green desktop that records its input events."""

    note = ""

    def __init__(self) -> None:
        decoder = PictureDecoder()
        decoder.picture = Picture(8, 4)
        decoder.picture.write(Area(0, 0, 8, 4), GREEN.to_bytes(4, "little") * 32)
        super().__init__(decoder)
        self.sent: list[InputEvent] = []

    async def send(self, event: InputEvent) -> None:
        self.sent.append(event)

    def change(self) -> None:
        """Inform the observers of an update."""
        self._inform(Update(size=(8, 4)))


def test_the_picture_is_shown_while_two_people_look_at_it() -> None:
    async def act() -> None:
        inner = Inner()
        desktop = SecondPersonDesktop(inner)
        await desktop.set_people(1)
        async with rfb_viewer(desktop) as (viewer, _):
            assert desktop.note == ALONE
            for people, colour in ((2, GREEN), (1, 0), (3, GREEN), (2, GREEN), (0, 0)):
                await desktop.set_people(people)
                inner.change()
                await eventually(lambda: set(viewer.picture.pixels) == {colour})  # noqa: B023

    asyncio.run(act())


def test_input_of_a_person_alone_is_dropped_and_nothing_stays_pressed() -> None:
    async def act() -> None:
        inner = Inner()
        desktop = SecondPersonDesktop(inner)
        await desktop.set_people(1)
        await desktop.send(KeyEvent(0x61, True))
        assert not inner.sent
        await desktop.set_people(2)
        await desktop.send(KeyEvent(0x62, True))
        await desktop.set_people(1)
        await desktop.send(KeyEvent(0x63, True))
        assert inner.sent == [KeyEvent(0x62, True), KeyEvent(0x62, False)]

    asyncio.run(act())
