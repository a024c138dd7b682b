"""Creates the engine of a standard. Engines are imported on use: all of them take a seventh of a box's start time."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from settings.adapted import AdaptedPort
from settings.profile import Profile
from wire.standards.engine import Engine, Observer

ClockMs = Callable[[], int]
"""The box's time in milliseconds since 1970."""


def make_engine(profile: Profile, site: AdaptedPort, clock_ms: ClockMs, now: float) -> Engine:
    """Make the engine of a new connection, with the dialect options of the profile and then of the site.

    `now` is the time of the event loop. Raises: ValueError if an option is unknown or invalid.
    """
    port = _with_dialect(profile, site)
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


def make_observer(profile: Profile, site: AdaptedPort) -> Observer:
    """Make the observer of a connection between the instrument and the laboratory's host.

    A listener with one RS-232 line observes only the instrument. Raises: ValueError as `make_engine`.
    """
    port = _with_dialect(profile, site)
    host_observed = site.role == "pass-through" or site.host_serial is not None
    match profile.speaks:
        case "hl7":
            from wire.standards.hl7 import Hl7Observer

            return Hl7Observer(port)
        case "poct1a":
            from wire.standards.poct1a import Poct1Observer

            return Poct1Observer(port)
        case "astm" | "astm-serial":
            from wire.standards.astm import astm_observer

            return astm_observer(port, host_observed=host_observed)
        case "au":
            from wire.standards.au import AuObserver

            return AuObserver(port, host_observed=host_observed)
        case "agent":
            raise ValueError(f"{profile.model} has the vendor's agent and cannot be observed")


def has_commands(profile: Profile, site: AdaptedPort) -> bool:
    """Return whether the box can send commands to the instrument: HL7 has them, and an observer sends nothing."""
    return profile.speaks == "hl7" and site.role == "receiver"


def _with_dialect(profile: Profile, site: AdaptedPort) -> AdaptedPort:
    return replace(site, dialect={**profile.dialect, **site.dialect})


def engine_problem(profile: Profile, site: AdaptedPort) -> str:
    """Return the error in the dialect options of the profile and the site; empty if they are valid."""
    try:
        if site.role == "receiver":
            make_engine(profile, site, lambda: 0, 0.0)
        else:
            make_observer(profile, site)
    except ValueError as error:
        return str(error)
    return ""
