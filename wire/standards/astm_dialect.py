"""Options for ASTM instruments that differ from LIS1-A (frames) and LIS2-A (records).

Without an option an engine accepts deviations that cannot change a value: lower-case checksums, a missing CR or LF,
the first frame numbered 0, frames of any length up to 64,000 bytes, several records in a frame and records over
several frames, line feeds instead of carriage returns between records, unusual delimiters, decimal commas. Deviations
that could change a value are refused unless an option allows them: a wrong checksum, a frame number out of order, a
message without an end. Each option names the instruments or projects that need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from wire.standards.dialect import convert_options

_PLACE: Final = r"[HPO]-[1-9][0-9]?(\.[1-9])?"
Place = Annotated[str, Meta(pattern=rf"^{_PLACE}\Z", examples=["O-3"])]
"""Record, field and component, counted from 1; the record's type is field 1."""
Markers = Annotated[str, Meta(pattern=rf"^{_PLACE}:[A-Za-z0-9]+( {_PLACE}:[A-Za-z0-9]+)*\Z")]


class AstmDialect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Options of the protocol, with the default for each."""

    checksum: Literal["checked", "ignored", "absent"] = "checked"
    """Whether the checksum is compared, sent but not compared (instruments that leave out ETX or count characters
    instead of bytes: OpenELIS-Global-2 #4143), or not sent (converters that strip it)."""
    frame_end: Literal["lf", "cr", "checksum"] = "lf"
    """The last byte of a frame.

    An instrument that leaves out CR or LF is answered 0.25 s after the byte it sent last, or immediately with this
    option (cosyte/astm, go-bloodlab-net).
    """
    frame_numbers: Literal["counted", "any", "absent"] = "counted"
    """Whether frame numbers count 1 to 7, 0, …, may be any (go-bloodlab-net: always the same), or are not sent."""
    terminator: Literal["required", "absent"] = "required"
    """Whether a message ends with an L record, or with the next H or EOT. In the second case the last frame is
    acknowledged before the message is durable, because nothing shows that it is the last."""
    xon_xoff: bool = False
    """Whether the bytes 0x11 and 0x13 are flow control of the line and not part of a frame."""
    encoding: Literal["utf-8", "latin-1", "cp1252", "gb18030", "shift_jis"] = "utf-8"
    """The encoding of test codes and control ids. In gb18030 and shift_jis a byte of a character can equal a
    delimiter."""
    control_id: Place = "O-3"
    """The component that contains the id of a control (P-3 and P-4: OpenELIS gap analysis)."""
    control_markers: Markers = "H-12:Q O-12:Q"
    """The values that mark a message or order as quality control; one is sufficient (O-16:CTRL: Yumizen H500)."""
    result_statuses: Annotated[str, Meta(pattern=r"^[A-Z]*\Z")] = "FCV"
    """The values of R-9 that mean a final result, as does an empty R-9 (GeneXpert, cobas). Other results are not
    reported."""
    alarm_types: Annotated[str, Meta(pattern=r"^[A-Z]+\Z")] = "I"
    """The values of C-5 that mean an alarm of the instrument: I in LIS2-A."""


def astm_dialect(options: Mapping[str, object]) -> AstmDialect:
    """Convert the options of a site or profile. Raises: ValueError with the option and its correction."""
    return convert_options(options, AstmDialect, "ASTM")
