"""Sessions of ASTM instruments, from records."""

from __future__ import annotations

from typing import Any

from tests.support.wire.instrument_cases import Played, play, port_of
from wire.standards.astm import astm_engine
from wire.standards.lis1.frames import ENQ, EOT, FrameStyle, frames_of

CONFIG: dict[str, Any] = {
    "timezone": "+01:00",
    "tests": {"798": "glu", "435": "k", "TSH": "tsh"},
    "controls": {"NORM2": {"level": 2, "glu": ["5.00", "0.08"], "k": ["4.20", "0.05"]}},
    "alarms": {"27": {"code": "E0001", "component": "software", "severity": "error"}},
}
E1381 = FrameStyle()
HEADER = r"H|\^&|||CX900^1|||||host||P|1|20310304100000"
CONTROL = "O|1|NORM2|1^2^3^^QC|^^^798|R||||||Q"
RESULT = "R|1|^^^798|5.18|mmol/l||N||F||||20310304095900"


def session(*records: str, style: FrameStyle = E1381, encoding: str = "utf-8") -> bytes:
    """Return the bytes of an instrument that sends these records and does not wait for answers."""
    message = "".join(record + "\r" for record in records).encode(encoding)
    return b"".join([ENQ, *frames_of(message, style), EOT])


def astm_played(*records: str, encoding: str = "utf-8", **config: Any) -> Played:
    """Return the result of a port for a message with these records and a terminator record; the port's
    settings are CONFIG, changed by `config`.
    """
    data = session(*records, "L|1|N", encoding=encoding)
    return play(astm_engine(port_of({**CONFIG, **config})), [data])
