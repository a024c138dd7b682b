"""No pixel of a masked area leaves the box, also if the instrument changes its screen."""

from __future__ import annotations

import asyncio
import io
import struct
from random import Random

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.box.desktop.masking import MASK, MaskedPicture
from datacenter.desktop.recording import read_recording
from settings.profile import DesktopScreen
from tests.support.desktop.session import channel_pair, desktop_session
from tests.support.eventually import eventually
from wire.desktop.connection import converse
from wire.desktop.picture import Area, Picture
from wire.desktop.rfb import Encoding
from wire.desktop.rfb_server import viewer_handshake
from wire.desktop.stream import parse_update

WIDTH, HEIGHT = 96, 80
MASKS = [Area(10, 20, 40, 15), Area(45, 30, 20, 20)]
SCREEN = DesktopScreen(size=[WIDTH, HEIGHT], masked=[list(area) for area in MASKS])
SECRET = 0x5EC2E7
"""The colour of a patient's data. Nothing else has it."""
HARMLESS = st.integers(0, 0xFFFF)


def is_masked(x: int, y: int) -> bool:
    return any(area.x <= x < area.right and area.y <= y < area.bottom for area in MASKS)


def secret_screen(picture: Picture, colour: int) -> None:
    """Fill the masked areas with the secret, and the rest with a colour."""
    for y in range(picture.height):
        for x in range(picture.width):
            picture.pixels[y * picture.width + x] = SECRET if is_masked(x, y) else colour


@settings(max_examples=40)
@given(st.tuples(*[st.integers(-5, 100)] * 2, *[st.integers(0, 110)] * 2))
def test_an_update_of_any_area_copies_exactly_its_unmasked_pixels(corners: tuple[int, int, int, int]) -> None:
    source = Picture(WIDTH, HEIGHT)
    masked = MaskedPicture(source, SCREEN)
    before = masked.picture.copy()
    secret_screen(source, 7)
    area = Area(*corners)
    masked.update(area)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            pixel = masked.picture.pixels[y * WIDTH + x]
            in_area = area.x <= x < area.right and area.y <= y < area.bottom
            if is_masked(x, y):
                assert pixel == int.from_bytes(MASK, "little")
            else:
                assert pixel == (7 if in_area else before.pixels[y * WIDTH + x])


def test_a_screen_of_another_size_is_masked_as_a_whole() -> None:
    source = Picture(WIDTH + 1, HEIGHT)
    source.pixels[:] = memoryview(struct.pack("<I", SECRET) * source.area.pixels).cast("I")
    masked = MaskedPicture(source, SCREEN)
    masked.update(source.area)
    assert masked.picture.data == MASK * source.area.pixels


def test_without_masks_everything_is_shown() -> None:
    source = Picture(WIDTH, HEIGHT)
    secret_screen(source, 7)
    assert MaskedPicture(source, None).picture == source


def rectangles(random: Random, picture: Picture) -> bytes:
    """Return a random update message of a VNC server; its draws and copies keep secrets within the masked areas."""
    parts = []
    for _ in range(random.randint(1, 4)):
        x, y = random.randrange(picture.width), random.randrange(picture.height)
        area = Area(x, y, random.randint(1, picture.width - x), random.randint(1, picture.height - y))
        if random.random() < 0.5:
            colour = random.randrange(0xFFFF)
            pixels = [
                SECRET if is_masked(x, y) else colour
                for y in range(area.y, area.bottom)
                for x in range(area.x, area.right)
            ]
            data = struct.pack(f"<{len(pixels)}I", *pixels)
            parts.append(struct.pack(">HHHHi", *area, Encoding.RAW) + data)
        else:  # a list within the masked area is scrolled
            mask = random.choice(MASKS)
            target = mask._replace(height=mask.height - 4)
            copied = struct.pack(">HHHHi", *target, Encoding.COPY_RECT)
            parts.append(copied + struct.pack(">HH", mask.x, mask.y + 4))
    return struct.pack(">BxH", 0, len(parts)) + b"".join(parts)


def resize(width: int, height: int) -> bytes:
    return struct.pack(">BxH", 0, 1) + struct.pack(">HHHHi", 0, 0, width, height, Encoding.DESKTOP_SIZE)


@pytest.mark.parametrize("seed", range(8))
def test_no_masked_colour_is_in_the_stream(seed: int) -> None:
    random = Random(seed)

    async def watch() -> tuple[io.BytesIO, int]:
        server, server_end = await channel_pair()
        async with desktop_session(server, screen=SCREEN) as session:
            await converse(server_end, viewer_handshake(WIDTH, HEIGHT, "a patient's name"))
            picture = Picture(WIDTH, HEIGHT)
            secret_screen(picture, 1)
            await server_end.write(
                struct.pack(">BxHHHHHi", 0, 1, *picture.area, Encoding.RAW) + bytes(picture.data)
            )
            for _ in range(6):
                await server_end.write(rectangles(random, picture))
                if random.random() < 0.3:  # the secret is anywhere on a screen of another size
                    resized = Picture(WIDTH + 8, HEIGHT - 8)
                    await server_end.write(resize(resized.width, resized.height))
                    everywhere = struct.pack("<I", SECRET) * resized.area.pixels
                    await server_end.write(
                        struct.pack(">BxHHHHHi", 0, 1, *resized.area, Encoding.RAW) + everywhere
                    )
                    await server_end.write(resize(WIDTH, HEIGHT))
                await asyncio.sleep(0)
            marker = struct.pack("<I", 0xABCDEF)
            await server_end.write(struct.pack(">BxHHHHHi", 0, 1, 0, 0, 1, 1, Encoding.RAW) + marker)
            await eventually(lambda: session.receiver.picture.pixels[0] == 0xABCDEF)
            session.writer.end()
            server_end.writer.close()
            session.recording.seek(0)
            return session.recording, session.receiver.updates

    recording, updates = asyncio.run(watch())
    read = read_recording(recording)
    assert len(read.frames) == updates
    decompressor = zstd.ZstdDecompressor()
    for frame in read.frames:
        data = decompressor.decompress(frame.message)
        update = parse_update(data)
        assert SECRET not in update.colours
        assert not any(tile.is_direct and SECRET in tile.pixels for tile in update.tiles)
        assert b"patient" not in data
    for _, picture in read.replay():
        assert SECRET not in set(picture.pixels)


@given(st.lists(HARMLESS, min_size=1, max_size=5))
@settings(max_examples=10)
def test_the_mask_does_not_depend_on_the_pixels_it_hides(colours: list[int]) -> None:
    shown = set()
    for colour in colours:
        source = Picture(WIDTH, HEIGHT)
        for mask in MASKS:
            source.write(mask, struct.pack("<I", colour) * mask.pixels)
        shown.add(bytes(MaskedPicture(source, SCREEN).picture.data))
    assert len(shown) == 1
