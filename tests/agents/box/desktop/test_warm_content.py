from __future__ import annotations

import pytest

from agents.box.desktop.encoder import PictureEncoder
from agents.box.desktop.warm_content import make_warm_content
from datacenter.desktop.decoder import PictureDecoder
from datacenter.desktop.recording import find_warm
from tests.support.desktop.screens import Analyzer, to_picture
from wire.desktop.picture import Picture
from wire.desktop.stream import DesktopStreamError
from wire.desktop.warm import COLD, WARM_BYTES_MAX, WarmContent


def length_of(screen: Picture, warm: WarmContent) -> int:
    """Return the length of the messages of a first picture in bytes, and check that it arrives exactly."""
    encoder, decoder = PictureEncoder(screen, warm, level=3), PictureDecoder(warm)
    length = 0
    while (message := encoder.next_message()) is not None:
        decoder.apply(message)
        length += len(message)
    assert decoder.picture == screen
    return length


def test_screens_like_those_of_the_starting_content_are_short_and_exact() -> None:
    screen = to_picture(next(Analyzer().script()).screen)
    other_day = to_picture(next(Analyzer(seed=5).script()).screen)
    warm = make_warm_content([other_day])
    assert length_of(screen, warm) < 0.6 * length_of(screen, COLD)
    again = WarmContent.parse(warm.encode())
    assert again == warm
    assert again.identity == warm.identity != COLD.identity


def test_starting_content_is_found_by_its_identity() -> None:
    warm = WarmContent((1, 2), b"some content")
    assert find_warm(warm.identity, {warm.identity: warm}) is warm
    assert find_warm(COLD.identity, {}) is COLD
    with pytest.raises(DesktopStreamError, match="which is not known here"):
        find_warm(warm.identity, {})


@pytest.mark.parametrize("data", [b"\0\0\0\1", b"\xff\xff\xff\xff" + bytes(100), bytes(WARM_BYTES_MAX + 1)])
def test_an_invalid_file_of_starting_content_is_an_error(data: bytes) -> None:
    with pytest.raises(DesktopStreamError, match="not the starting content"):
        WarmContent.parse(data)


def test_starting_content_of_no_screens_is_cold() -> None:
    assert make_warm_content([]) == COLD
