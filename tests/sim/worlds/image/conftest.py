"""A fixture for tests that flash and start a box, which need root and QEMU."""

from __future__ import annotations

import pytest

from sim.worlds.image.machine import qemu
from sim.worlds.kernel import missing


@pytest.fixture
def _machine() -> None:
    lacks = missing()
    if qemu.lacking("bios"):
        lacks.append(qemu.lacking("bios"))
    if lacks:
        pytest.fail("the image world cannot be tested here: " + "; ".join(lacks))
