"""The engine of each standard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from settings.adapted import AdaptedPort
from settings.profile import Profile, Speaks
from wire.standards.astm import astm_engine
from wire.standards.au import AuEngine
from wire.standards.engine import Engine
from wire.standards.hl7 import Hl7Receiver
from wire.standards.poct1a import Poct1Receiver

ClockMs = Callable[[], int]
"""The box's time in milliseconds since 1970."""
MakeEngine = Callable[[AdaptedPort, ClockMs, float], Engine]
"""Makes the engine of a new connection; the last argument is the time of the event loop."""

_ENGINES: Final[dict[Speaks, MakeEngine]] = {
    "astm": lambda port, _clock_ms, _now: astm_engine(port),
    "astm-serial": lambda port, _clock_ms, _now: astm_engine(port),
    "au": lambda port, _clock_ms, _now: AuEngine(port),
    "hl7": Hl7Receiver,
    "poct1a": Poct1Receiver,
}


def make_engine(profile: Profile, site: AdaptedPort, clock_ms: ClockMs, now: float) -> Engine:
    """Make the engine of a new connection, with the dialect options of the profile and then of the site.

    Raises: ValueError if an option is unknown or invalid.
    """
    port = replace(site, dialect={**profile.dialect, **site.dialect})
    return _ENGINES[profile.speaks](port, clock_ms, now)


def engine_problem(profile: Profile, site: AdaptedPort) -> str:
    """Why there is no engine for the options of the profile and the site; empty if there is one."""
    try:
        make_engine(profile, site, lambda: 0, 0.0)
    except ValueError as error:
        return str(error)
    return ""
