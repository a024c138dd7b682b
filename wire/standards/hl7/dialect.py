"""Options for HL7 instruments that differ from MLLP and HL7 v2.5.1, chapters 2 and 13.

Without an option an engine accepts deviations that cannot change a value: unusual delimiters, segments that end with
LF, CR LF or FS, a doubled separator in the header, any character set regardless of MSH-18, times without an offset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from wire.standards.dialect import convert_options

FieldPlace = Annotated[str, Meta(pattern=r"^([A-Z][A-Z0-9]{2}-[1-9][0-9]?)?\Z", examples=["OBR-3"])]
"""Segment and field."""


class Hl7Dialect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Options of the protocol, with the default for each."""

    charset: Literal["detect", "gb18030"] = "detect"
    """`gb18030`: the second byte of a character may be a delimiter. Otherwise codes are compared in every usual
    character set."""
    message_end: Literal["fs-cr", "fs"] = "fs-cr"
    """`fs`: for instruments that do not send CR after FS; FS cannot occur in data then."""
    busy: Literal["error", "silence"] = "error"
    """The answer while a message cannot be stored: AE, or none for instruments that discard a message after AE."""
    acknowledgement: Literal["by-header", "original"] = "by-header"
    """`original`: AA, AE or AR regardless of MSH-15 and MSH-16."""
    control_id: FieldPlace = ""
    """The only field that identifies a control; by default any of PID-2, PID-3, SPM-2, SPM-3, INV-1,
    INV-16, OBR-2 and OBR-3."""
    equipment: Annotated[str, Meta(pattern=r"^[A-Za-z0-9 _.-]{1,32}\Z", examples=["I400"])] = "1"
    """EQU-1 in commands to the instrument."""
    silence_s: Annotated[int, Meta(ge=0, le=86_400)] = 0
    """Seconds without a byte after which the connection is closed; 0: never. A dead peer is detected without it."""


def hl7_dialect(options: Mapping[str, object]) -> Hl7Dialect:
    """Convert the options of a site or profile. Raises: ValueError with the option and its correction."""
    return convert_options(options, Hl7Dialect, "HL7")
