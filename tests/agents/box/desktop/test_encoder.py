from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agents.box.desktop.encoder import MESSAGE_BYTES, URGENT_PIXELS_MAX, PictureEncoder
from datacenter.desktop.decoder import PictureDecoder
from tests.support.desktop.screens import Analyzer, to_bytes, to_picture
from wire.desktop.picture import Area, Picture
from wire.desktop.rfb import CursorShape
from wire.desktop.stream import PALETTE_MAX, UpdateNotice

FAST = 1
"""A zstd level with small tables, for tests whose result does not depend on the level."""


def messages(encoder: PictureEncoder) -> Iterator[bytes]:
    while (message := encoder.next_message()) is not None:
        yield message


def deliver(encoder: PictureEncoder, decoder: PictureDecoder) -> list[int]:
    """Return the lengths of all messages that bring the decoder up to date."""
    lengths = []
    for message in messages(encoder):
        decoder.apply(message)
        lengths.append(len(message))
    return lengths


def test_each_step_of_a_script_arrives_exactly() -> None:
    picture = Picture(1024, 768)
    encoder, decoder = PictureEncoder(picture), PictureDecoder()
    lengths = {}
    for step in Analyzer().script():
        picture.data[:] = to_bytes(step.screen)
        encoder.changed(*step.drawn)
        lengths[step.name] = sum(deliver(encoder, decoder))
        assert decoder.picture == picture, step.name
    assert lengths["one value changes"] < 200
    assert lengths["tab shown before"] < lengths["another tab"]
    assert sum(lengths.values()) < 90_000


def test_messages_are_short() -> None:
    encoder = PictureEncoder(to_picture(next(Analyzer().script()).screen))
    lengths = deliver(encoder, PictureDecoder())
    assert len(lengths) > 10
    assert max(lengths) < 5 * MESSAGE_BYTES


def test_a_small_change_is_sent_before_the_rest_of_a_large_one() -> None:
    picture = to_picture(next(Analyzer().script()).screen)
    encoder, decoder = PictureEncoder(picture, level=FAST), PictureDecoder()
    decoder.apply(encoder.next_message() or b"")
    area = Area(900, 700, 8, 8)
    picture.write(area, b"\1\2\3\0" * 64)
    encoder.changed(area)
    decoder.apply(encoder.next_message() or b"")
    assert decoder.picture.read(area) == picture.read(area)
    assert decoder.picture != picture
    deliver(encoder, decoder)
    assert decoder.picture == picture


@pytest.mark.parametrize("is_at_once", [False, True])
def test_a_small_change_is_sent_before_a_large_one_in_many_areas(is_at_once: bool) -> None:
    picture = to_picture(next(Analyzer().script()).screen)
    encoder, decoder = PictureEncoder(picture, level=FAST), PictureDecoder()
    deliver(encoder, decoder)
    large, small = Area(0, 0, 1024, 600), Area(900, 700, 8, 8)
    picture.write(large, noise(large))
    picture.write(small, b"\1\2\3\0" * 64)
    many = [Area(x, y, 64, 10) for y in range(0, 600, 10) for x in range(0, 320, 64)][:200]
    if is_at_once:
        encoder.changed(*many, small)
    else:
        encoder.changed(*many)
        encoder.changed(small)
    decoder.apply(encoder.next_message() or b"")
    assert decoder.picture.read(small) == picture.read(small)


def test_any_number_of_small_changes_arrives() -> None:
    picture = Picture(300, 300)
    encoder, decoder = PictureEncoder(picture, level=FAST), PictureDecoder()
    deliver(encoder, decoder)
    for number in range(300):
        area = Area(number % 20 * 14, number // 20 * 14, 3, 3)
        picture.write(area, struct.pack("<I", number + 1) * 9)
        encoder.changed(area)
    deliver(encoder, decoder)
    assert decoder.picture == picture


def test_a_large_change_is_completed_while_small_changes_continue() -> None:
    picture = to_picture(next(Analyzer().script()).screen)
    encoder, decoder = PictureEncoder(picture, level=FAST), PictureDecoder()
    area = Area(0, 0, 8, 8)
    for number in range(300):
        picture.write(area, struct.pack("<I", number) * 64)
        encoder.changed(area)
        decoder.apply(encoder.next_message() or b"")
        if decoder.picture == picture:
            return
    pytest.fail("the picture did not arrive")


def test_a_change_without_a_difference_sends_nothing() -> None:
    picture = Picture(300, 300)
    encoder, decoder = PictureEncoder(picture, level=FAST), PictureDecoder()
    deliver(encoder, decoder)
    encoder.changed(Area(0, 0, 10, 10))
    encoder.changed(picture.area)
    encoder.changed(Area(400, 400, 10, 10))
    assert encoder.next_message() is None


def test_a_moved_list_is_copied() -> None:
    picture = to_picture(next(Analyzer().script()).screen)
    encoder, decoder = PictureEncoder(picture, level=FAST), PictureDecoder()
    deliver(encoder, decoder)
    moved = picture.copy()
    for distance in (52, -83):
        list_area = Area(14, 110, 690, 620)
        target = list_area._replace(
            y=max(list_area.y, list_area.y + distance), height=list_area.height - abs(distance)
        )
        moved.copy_within(target, target.x, target.y - distance)
        picture.data[:] = moved.data
        encoder.changed(list_area)
        updates = [decoder.apply(message) for message in messages(encoder)]
        assert decoder.picture == picture
        copied = sum(copy.target.pixels for update in updates for copy in update.copies)
        drawn = sum(tile.area.pixels for update in updates for tile in update.tiles)
        assert copied > target.pixels / 2, "strips without text are equal before and after"
        assert drawn < 0.2 * target.pixels, "only what the copy uncovered"


def test_pointer_bell_size_and_state_arrive() -> None:
    picture = Picture(20, 10)
    encoder, decoder = PictureEncoder(picture, level=FAST), PictureDecoder()
    shape = CursorShape(9, 2, 3, 1, bytes([1, 2, 3, 0] * 18), b"\xff\x80\xff\x00")
    encoder.set_cursor(shape)
    encoder.ring()
    encoder.set_notice(UpdateNotice.STALLED | UpdateNotice.VIEW_ONLY)
    updates = [decoder.apply(message) for message in messages(encoder)]
    assert decoder.cursor == shape
    assert decoder.notice & ~UpdateNotice.BELL == UpdateNotice.STALLED | UpdateNotice.VIEW_ONLY
    assert [update.notice & 2 for update in updates] == [2, *[0] * (len(updates) - 1)]
    encoder.set_notice(UpdateNotice.VIEW_ONLY)
    deliver(encoder, decoder)
    assert decoder.notice == UpdateNotice.VIEW_ONLY
    larger = Picture(40, 30)
    larger.write(Area(30, 20, 1, 1), b"\1\2\3\0")
    encoder.resized(larger)
    deliver(encoder, decoder)
    assert decoder.picture == larger


def test_more_colours_than_the_palette_has_arrive_exactly() -> None:
    picture = Picture(512, 200)
    for index in range(512 * 200):
        picture.pixels[index] = index * 40503 & 0xFFFFFF
    encoder, decoder = PictureEncoder(picture, level=FAST), PictureDecoder()
    updates = [decoder.apply(message) for message in messages(encoder)]
    assert decoder.picture == picture
    assert sum(len(update.colours) for update in updates) == PALETTE_MAX
    assert any(tile.is_direct for update in updates for tile in update.tiles)
    picture.pixels[5] = 0xABCDEF
    encoder.changed(Area(0, 0, 20, 1))
    deliver(encoder, decoder)
    assert decoder.picture == picture


class Desktops(RuleBasedStateMachine):
    """Random drawing, copying and resizing, with messages taken at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = Picture(90, 70)
        self.encoder, self.decoder = PictureEncoder(self.picture, level=FAST), PictureDecoder()

    @rule(
        x=st.integers(0, 89),
        y=st.integers(0, 69),
        width=st.integers(1, 90),
        height=st.integers(1, 70),
        colours=st.lists(st.integers(0, 0xFFFFFF), min_size=1, max_size=4),
    )
    def draw(self, x: int, y: int, width: int, height: int, colours: list[int]) -> None:
        area = Area(x, y, width, height).common(self.picture.area)
        if not area.pixels:
            return
        pixels = (colours * area.pixels)[: area.pixels]
        self.picture.write(area, struct.pack(f"<{area.pixels}I", *pixels))
        self.encoder.changed(area)

    @rule(distance=st.integers(-60, 60))
    def scroll(self, distance: int) -> None:
        height = self.picture.height - abs(distance)
        if height > 0:
            target = Area(0, max(0, distance), self.picture.width, height)
            self.picture.copy_within(target, 0, target.y - distance)
            self.encoder.changed(self.picture.area)

    @rule(width=st.integers(1, 150), height=st.integers(1, 200))
    def resize(self, width: int, height: int) -> None:
        self.picture = Picture(width, height)
        self.encoder.resized(self.picture)

    @rule(count=st.integers(1, 3))
    def take(self, count: int) -> None:
        for _ in range(count):
            if (message := self.encoder.next_message()) is not None:
                self.decoder.apply(message)

    @invariant()
    def nothing_is_larger_than_the_picture(self) -> None:
        assert self.decoder.picture.data.nbytes <= 4 * 200 * 150

    def teardown(self) -> None:
        deliver(self.encoder, self.decoder)
        assert self.decoder.picture == self.picture


Desktops.TestCase.settings = settings(max_examples=40, stateful_step_count=12)
TestAnyDesktop = Desktops.TestCase


def noise(area: Area) -> bytes:
    return bytes(0 if index % 4 == 3 else index * 131 >> 3 & 255 for index in range(4 * area.pixels))


@given(st.integers(1, URGENT_PIXELS_MAX // 200))
@settings(max_examples=5)
def test_any_size_of_noise_arrives_exactly(width: int) -> None:
    picture = Picture(width, 200)
    picture.write(picture.area, noise(picture.area))
    encoder, decoder = PictureEncoder(picture, level=FAST), PictureDecoder()
    deliver(encoder, decoder)
    assert decoder.picture == picture
