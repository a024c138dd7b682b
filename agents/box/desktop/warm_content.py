"""Makes starting content of streams (`wire.desktop.warm`) from simulated or masked screens."""

from __future__ import annotations

from collections.abc import Iterable

from agents.box.desktop.encoder import PictureEncoder
from wire.desktop.picture import Picture
from wire.desktop.warm import WarmContent


def make_warm_content(screens: Iterable[Picture]) -> WarmContent:
    """Return starting content with these screens, the last of which should be the one that sessions show first.

    Only simulated or masked screens may be used, because the content is stored.
    """
    encoder: PictureEncoder | None = None
    content = []
    for screen in screens:
        if encoder is None:
            encoder = PictureEncoder(screen)
        else:
            encoder.resized(screen)
        while (update := encoder.next_update()) is not None:
            content.append(update.encode())
    return WarmContent(encoder.palette, b"".join(content)) if encoder else WarmContent()
