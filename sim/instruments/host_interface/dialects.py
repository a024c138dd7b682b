"""Dialects: deviations of instruments in the field from their standard. docs/design/instruments.md names the sources.

`box` contains, by standard, the options that the site must set on the box; other deviations need no option.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

HL7, ASTM, SERIAL, POCT, AU = "hl7", "astm", "astm-serial", "poct1a", "au"
_ASTM: Final = (ASTM, SERIAL)
_TCP: Final = (HL7, ASTM, POCT)
_ALL: Final = (HL7, ASTM, SERIAL, POCT, AU)
SHARE: Final = 0.25
"""The probability of each option in a random dialect."""


@dataclass(frozen=True, slots=True)
class DialectOption:
    """A deviation from the standard. A dialect has at most one of the options with the same `aspect`."""

    name: str
    speaks: tuple[str, ...]
    text: str
    aspect: str = ""
    box: Mapping[str, Mapping[str, str | bool]] = field(default_factory=dict)


def _option(
    name: str,
    speaks: tuple[str, ...],
    text: str,
    aspect: str = "",
    *,
    hl7: Mapping[str, str | bool] | None = None,
    astm: Mapping[str, str | bool] | None = None,
    poct1a: Mapping[str, str | bool] | None = None,
) -> DialectOption:
    box = {HL7: hl7 or {}, ASTM: astm or {}, SERIAL: astm or {}, POCT: poct1a or {}}
    return DialectOption(name, speaks, text, aspect or name, box)


_LIST: Final = (
    # -- content
    _option("latin-1", (HL7, *_ASTM), "Texts are in ISO 8859-1.", "charset", astm={"encoding": "latin-1"}),
    _option(
        "gb-18030",
        (HL7, *_ASTM),
        "Texts are in GB 18030, whose second bytes may be delimiters.",
        "charset",
        hl7={"charset": "gb18030"},
        astm={"encoding": "gb18030"},
    ),
    _option("clock-years-behind", (HL7, *_ASTM, POCT), "The clock is 12 years behind.", "clock"),
    _option("clock-years-ahead", (HL7, *_ASTM, POCT), "The clock is 9 years ahead.", "clock"),
    _option("time-with-offset", (HL7, POCT), "Times have an offset from UTC.", "offset"),
    _option("decimal-comma", (HL7, *_ASTM), "Values have a decimal comma."),
    # -- lines
    _option("many-writes", _ALL, "A message is sent in many small writes."),
    _option(
        "aborts-transfers", (HL7, *_ASTM, POCT), "Now and then a transfer is aborted, and begun again later."
    ),
    _option("half-open", _TCP, "Now and then a connection is abandoned without being closed."),
    _option("repeats-unasked", (HL7, *_ASTM), "Now and then an acknowledged message is sent again."),
    # -- HL7
    _option("charset-lying", (HL7,), "MSH-18 states UTF-8, but texts are in ISO 8859-1.", "charset"),
    _option("charset-absent", (HL7,), "Texts are in ISO 8859-1, without MSH-18.", "charset"),
    _option("delimiters", (HL7, *_ASTM), "The header declares unusual delimiters."),
    _option("doubled-separator", (HL7,), "The first separator of the header is doubled."),
    _option("lf-segments", (HL7,), "Segments end with CR LF.", "segments"),
    _option("fs-segments", (HL7,), "Segments end with FS instead of CR.", "segments"),
    _option("lf-after-message", (HL7,), "LF follows each message."),
    _option("nul-between-messages", (HL7, *_ASTM, AU), "NUL bytes are between messages."),
    _option("log-between-messages", (HL7, *_ASTM, AU), "Log lines are between messages."),
    _option("constant-control-id", (HL7,), "MSH-10 is the same in all messages."),
    _option("enhanced-mode", (HL7,), "MSH-15 and MSH-16 ask for acknowledgements as in IHE LAW."),
    _option("pipelined", (HL7,), "Several messages are sent in one write, before any is acknowledged."),
    _option("images", (HL7,), "Patient results contain images in base64."),
    _option("placeholders", (HL7, *_ASTM), "Values that were not measured are sent as `***.**` or `-----`."),
    _option("oul", (HL7,), "Quality control is OUL^R22 instead of ORU^R01."),
    # -- ASTM
    _option("checksum-lower", _ASTM, "Checksums have lower-case letters.", "checksum"),
    _option("checksum-wrong", _ASTM, "Checksums are wrong.", "checksum", astm={"checksum": "ignored"}),
    _option("frame-without-lf", _ASTM, "Frames end with CR.", "frame-end"),
    _option("frame-without-cr-lf", _ASTM, "Frames end with the checksum.", "frame-end"),
    _option("first-frame-0", _ASTM, "The first frame has number 0.", "frame-numbers"),
    _option(
        "constant-frame-numbers",
        _ASTM,
        "All frames have number 1.",
        "frame-numbers",
        astm={"frame-numbers": "any"},
    ),
    _option("records-in-one-frame", _ASTM, "All records of a message are in one frame.", "frames"),
    _option("records-over-frames", _ASTM, "Frames are short and end anywhere in a record.", "frames"),
    _option("frames-in-one-write", _ASTM, "A whole transfer is sent in one write.", "transfer"),
    _option(
        "enq-in-transfer", _ASTM, "Now and then a transfer begins again with ENQ in its middle.", "transfer"
    ),
    _option("late-acknowledgements", (*_ASTM, AU), "Now and then an acknowledgement is missed.", "transfer"),
    _option("garbled-frames", _ASTM, "Now and then noise changes a byte of a frame.", "checksum"),
    _option("no-terminator", _ASTM, "Messages have no L record.", astm={"terminator": "absent"}),
    _option("padded-fields", _ASTM, "Fields are padded with blanks."),
    _option(
        "bare-header",
        _ASTM,
        "The header record has no fields, hence no time, and no alarms are sent.",
        "delimiters",
    ),
    _option("manufacturer-records", _ASTM, "M records with histograms in base64 follow results."),
    _option("comments", _ASTM, "A comment follows each result."),
    _option(
        "host-queries", _ASTM, "Before it sends patient results, the instrument asks the host for orders."
    ),
    # -- POCT1-A
    _option("mllp-framing", (POCT,), "Documents are framed as in MLLP."),
    _option("no-declaration", (POCT,), "Documents have no XML declaration."),
    _option("not-continuous", (POCT,), "The instrument cannot report continuously, and connects again."),
    _option("message-type-wrong", (POCT,), "The header of a document names another type."),
    _option(
        "end-of-topic-acknowledged",
        (POCT,),
        "The instrument waits for the acknowledgement of EOT.R01.",
        poct1a={"acknowledge-end-of-topic": True},
    ),
    # -- Beckman AU
    _option("crlf-after-record", (AU,), "CR LF follows each record."),
)
OPTIONS: Final = {option.name: option for option in _LIST}


def options_of(speaks: str) -> list[str]:
    """Return the names of the options of a standard."""
    return [option.name for option in _LIST if speaks in option.speaks]


def draw_dialect(random: Random, speaks: str) -> frozenset[str]:
    """Draw each option of a standard with the probability `SHARE`, without contradictions."""
    drawn: list[str] = []
    for name in random.sample(options := options_of(speaks), len(options)):
        if random.random() < SHARE and not contradiction((*drawn, name)):
            drawn.append(name)
    return frozenset(drawn)


def contradiction(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two options that cannot be combined; None if all can."""
    seen: dict[str, str] = {}
    names = list(names)
    if "gb-18030" in names and "delimiters" in names:
        return "gb-18030", "delimiters"  # the delimiters would be bytes of the character set
    for name in names:
        aspect = OPTIONS[name].aspect
        if aspect in seen:
            return seen[aspect], name
        seen[aspect] = name
    return None
