"""A small lab for tests of the image world, with a name that only this process uses."""

from __future__ import annotations

import os
from pathlib import Path

NAME = f"small-{os.getpid()}"
LAB = f"""\
[lab]
name = "{NAME}"
duration = "5s"
[box]
board = "rap-4"
[uplink]
rate = "1Mbit"
delay = "10ms"
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "1s"
"""


def in_image_world(lab: Path, image: Path, *options: object) -> tuple[object, ...]:
    """Return the arguments of `rap lab run` for a lab in the image world, with the key beside the image."""
    return (lab, "--world", "image", "--image", image, "--key", image.with_name("key.pub"), *options)
