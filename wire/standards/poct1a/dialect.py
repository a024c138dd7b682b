"""Options for POCT1-A instruments that differ from the standard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from wire.standards.dialect import convert_options


class Poct1Dialect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Options of the protocol, with the default for each."""

    acknowledge_end_of_topic: bool = False
    """Whether EOT.R01 is acknowledged (HemoScreen requires it, DCA Vantage continues without)."""
    continuous: bool = True
    """Whether the instrument is requested to report continuously, if it can; otherwise the conversation ends after
    each topic, and the instrument connects again."""
    silence_s: Annotated[int, Meta(ge=0, le=86_400)] = 0
    """Seconds without a byte after which the connection is closed; 0: never. A dead peer is detected without it."""


def poct1_dialect(options: Mapping[str, object]) -> Poct1Dialect:
    """Convert the options of a site or profile. Raises: ValueError with the option and its correction."""
    return convert_options(options, Poct1Dialect, "POCT1-A")
