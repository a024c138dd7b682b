"""The engine of each standard."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from settings.adapted import AdaptedPort
from settings.profile import Profile
from wire.standards.engine import Engine
from wire.standards.hl7 import Hl7Receiver


def make_engine(profile: Profile, site: AdaptedPort, clock_ms: Callable[[], int], now: float) -> Engine:
    """Make the engine of a new connection: dialect options of the profile, then of the site.

    Raises: ValueError if an option is unknown or invalid.
    """
    port = replace(site, dialect={**profile.dialect, **site.dialect})
    if profile.speaks == "hl7":
        return Hl7Receiver(port, clock_ms, now)
    raise ValueError(f"{profile.model} speaks {profile.speaks}, for which there is no engine")
