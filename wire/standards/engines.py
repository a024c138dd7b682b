"""Creates the engine of a standard. Engines are imported when used: all imports take a seventh of a box's start."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from settings.adapted import AdaptedPort
from settings.profile import Profile
from wire.standards.engine import Engine

ClockMs = Callable[[], int]
"""The box's time in milliseconds since 1970."""


def make_engine(profile: Profile, site: AdaptedPort, clock_ms: ClockMs, now: float) -> Engine:
    """Make the engine of a new connection, with the dialect options of the profile and then of the site.

    `now` is the time of the event loop. Raises: ValueError if an option is unknown or invalid.
    """
    port = replace(site, dialect={**profile.dialect, **site.dialect})
    match profile.speaks:
        case "hl7":
            from wire.standards.hl7 import Hl7Receiver

            return Hl7Receiver(port, clock_ms, now)
        case "poct1a":
            from wire.standards.poct1a import Poct1Receiver

            return Poct1Receiver(port, clock_ms, now)
        case "astm" | "astm-serial":
            from wire.standards.astm import astm_engine

            return astm_engine(port)
        case "au":
            from wire.standards.au import AuEngine

            return AuEngine(port)
        case "agent":
            raise ValueError(f"{profile.model} has the vendor's agent and needs no engine")


def engine_problem(profile: Profile, site: AdaptedPort) -> str:
    """Return the error in the dialect options of the profile and the site; empty if they are valid."""
    try:
        make_engine(profile, site, lambda: 0, 0.0)
    except ValueError as error:
        return str(error)
    return ""
