"""Random streams and floods through the engines of ASTM and Beckman AU: no exception, at most 256 KiB per port."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from settings.adapted import AdaptedPort
from tests.support.wire.instrument_cases import instrument_cases
from tests.support.wire.lis_fuzz import FLOODS, feed, fuzz
from wire.standards.astm import astm_engine
from wire.standards.au import AuEngine
from wire.standards.engine import Engine, Outcome

MAKE: dict[str, Callable[[AdaptedPort], Engine]] = {"astm": astm_engine, "au": AuEngine}
PORTS = {"astm": instrument_cases("astm-tcp")[0].port, "au": instrument_cases("au-serial")[0].port}


@pytest.mark.parametrize("standard", ["astm", "au"])
def test_random_streams_raise_nothing_and_do_not_prevent_a_valid_conversation(standard: str) -> None:
    assert fuzz(standard, seed=3, total=60_000).conversations > 3


@pytest.mark.parametrize("standard", ["astm", "au"])
@pytest.mark.parametrize("unit", [*FLOODS, b"\x02\x03", b"\x05\x04", b"\x05\x02x\x03\r\n", b"?\x02"])
def test_a_flood_takes_at_most_256_kib(standard: str, unit: bytes) -> None:
    engine = MAKE[standard](PORTS[standard])
    flood = unit * (65_536 // len(unit))
    tracemalloc.start()
    feed(engine, flood, lambda: Outcome.BUSY)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 256 * 1024
