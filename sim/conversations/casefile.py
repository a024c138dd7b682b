"""The index of recorded conversations: what an instrument sends, and the expected reaction of the box.

[[case]]
name = "astm-bad-checksum-in-etb"
file = "astm-bad-checksum-in-etb.bin"  # all bytes that the instrument sends, in order
standard = "astm-tcp"                  # or astm-serial, hl7-mllp, poct1a, au-serial
config = { timezone = "+01:00", tests = { 798 = "glu" } }  # the site's settings of the port
script = [
  "send 0 1",                          # send bytes [0, 1) of the file in one write
  "reply 06",                          # the box answers with these hex bytes; "reply 06 after 0.5s before 2s"
  "ack AA 4711 U01",                   # an HL7 answer with this MSA-1, MSA-2 ("-": empty) and MSH-9.2
  "silence 3s",                        # nothing is answered for that time, by default 1 s
  "not 15",                            # no answer, or any answer except this one
  "wait 15s",
  "close", "open",                     # the connection
  "box restart",                       # the box's program restarts; the instrument connects again
  "box power-cut",                     # the box loses power; "box power-cut 3": in the third disk operation from now
  "box start",                         # the box is switched on again after "box power-cut 3"
  "box disk full",                     # or read-only, or writable again
  "box command 7 send-inventory",      # a command of the data center arrives, by default with the number 1
  "command INR U06",                   # the box sends a message with this MSH-9; its MSH-10 replaces COMMAND-ID
                                       # in the bytes that the instrument sends afterwards
  "document ACK.R01 AA 2",             # the box sends a POCT1-A document of this kind with these values
]
reports = [{ kind = "status", state = "running", at = "2031-03-04T08:30:10Z" }]  # what leaves the box, in order
audit = [{ event = "frame-refused", count = 1 }]  # what the box counts
patient_data = [[233, 246, "operator"]]  # bytes of the file that must not leave the box
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias, get_args

from msgspec import Meta, Struct

from settings.adapted import AdaptedPort
from settings.problems import Problems
from settings.profile import Component, ErrorCode, Profile, Speaks, Verb
from settings.toml import load
from settings.types import Table

Standard: TypeAlias = Literal["astm-tcp", "astm-serial", "hl7-mllp", "poct1a", "au-serial"]
_SPEAKS: Final[dict[Standard, Speaks]] = {
    "astm-tcp": "astm",
    "astm-serial": "astm-serial",
    "hl7-mllp": "hl7",
    "poct1a": "poct1a",
    "au-serial": "au",
}
ANSWER_SECONDS: Final = 15.0
"""The time limit of an answer, unless the script gives another one (LIS1-A, 6.5.2.4)."""
COMMAND_SECONDS: Final = 60.0
"""The time limit of a command; the box repeats a command after 30 s."""
SILENCE_SECONDS: Final = 1.0


class CountedEvent(Table, frozen=True):
    """An event that the box counts, and how often it must occur."""

    event: str
    count: Annotated[int, Meta(ge=1)]


class Conversation(Table, frozen=True):
    """One recorded conversation."""

    name: str
    file: Path
    standard: Standard
    script: list[str]
    reports: list[dict[str, object]]
    audit: list[CountedEvent] = []
    patient_data: list[list[object]] = []
    config: AdaptedPort = AdaptedPort()
    peculiarity: str = ""
    why: str = ""
    seen_in: list[str] = []

    def steps(self) -> list[ScriptStep]:
        """Return the parsed script. Raises: ValueError, with the invalid step."""
        return [parse_step(text) for text in self.script]

    def counts(self) -> Counter[str]:
        """Return the expected number of each event that the box counts."""
        return Counter({line.event: line.count for line in self.audit})

    def profile(self) -> Profile:
        """Return a profile with exactly the assays, codes and components of `config`."""
        controls = (assay for control in self.config.controls.values() for assay in control.targets)
        assays = dict.fromkeys([*self.config.tests.values(), *controls], "assay")
        alarms = self.config.alarms.values()
        errors = {
            alarm.code: ErrorCode(component=alarm.component, severity=alarm.severity, text="alarm")
            for alarm in alarms
        }
        components = {alarm.component: Component(text="component") for alarm in alarms}
        return Profile(
            model="recorded",
            version=1,
            summary=self.name,
            speaks=_SPEAKS[self.standard],
            assays=assays,
            components=components,
            errors=errors,
        )


class _Index(Table, frozen=True):
    case: Annotated[list[Conversation], Meta(min_length=1)]


class ScriptStep(Struct, frozen=True):
    """A step of a script: its kind, arguments, and earliest and latest time of the answer in seconds."""

    kind: str
    arguments: tuple[str, ...] = ()
    after_s: float = 0.0
    before_s: float = ANSWER_SECONDS


def read_conversations(index: Path) -> list[Conversation]:
    """Read an index and check its scripts. Raises: SettingsError with all problems."""
    return load(index, _Index, _check).case


def _check(index: _Index, problems: Problems) -> None:
    for number, case in enumerate(index.case):
        size = None
        with problems.part():
            try:
                size = case.file.stat().st_size
            except OSError as error:
                problems.add(("case", number, "file"), f"{case.file}: cannot be read: {error.strerror}")
        with problems.part():
            _check_script(number, case.script, size, problems)


def _check_script(number: int, script: Sequence[str], size: int | None, problems: Problems) -> None:
    """Check the steps; `size` is that of the recorded file, None if it cannot be read."""
    for text in script:
        try:
            step = parse_step(text)
        except ValueError as error:
            problems.add(("case", number, "script"), str(error))
            continue
        if step.kind != "send" or size is None:
            continue
        if not 0 <= int(step.arguments[0]) < int(step.arguments[1]) <= size:
            problems.add(("case", number, "script"), f'"{text}": the file has {size} bytes')


_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)s\Z")
_FORMS: Final = {
    "send": (r"\d+", r"\d+"),
    "command": (r"[A-Z]{3}", r"[A-Z0-9]{3}"),
    "document": (r"[A-Z]{3}\.R\d\d", r".*"),
    "ack": (r"[A-Z]{2}", r".*", r"[A-Z0-9]+"),
    "close": (),
    "open": (),
}


_BOX_FORMS: Final = (
    r"restart|start",
    r"power-cut( [1-9]\d*)?",
    r"disk (full|read-only|writable)",
    rf"command ([1-9]\d* )?({'|'.join(get_args(Verb))})",
)
"""The actions that a script can make a box perform."""


def parse_step(text: str) -> ScriptStep:
    """Parse one step. Raises: ValueError with the correction."""
    kind, *arguments = shlex.split(text)
    invalid = ValueError(
        f'"{text}" is not a step; write it like "send 0 12", "reply 06", "ack AA 7 U01", "wait 3s"'
    )
    if kind in ("wait", "silence"):
        times = [_seconds(argument) for argument in arguments] or [SILENCE_SECONDS]
        if len(times) > 1 or times[0] is None or (kind == "wait" and not arguments):
            raise invalid
        return ScriptStep(kind, (), times[0])
    if kind in ("reply", "not"):
        after_s, before_s = 0.0, ANSWER_SECONDS
        while len(arguments) > 2 and arguments[-2] in ("after", "before"):
            *arguments, name, time = arguments
            seconds = _seconds(time)
            if seconds is None:
                raise invalid
            after_s, before_s = (seconds, before_s) if name == "after" else (after_s, seconds)
        if not arguments or not all(re.fullmatch("[0-9A-Fa-f]{2}", argument) for argument in arguments):
            raise invalid
        return ScriptStep(kind, tuple(arguments), after_s, before_s)
    if kind == "box":
        if not any(re.fullmatch(form, " ".join(arguments)) for form in _BOX_FORMS):
            raise ValueError(
                f'"{text}" is not a step; the steps of a box are "box restart", "box power-cut", "box power-cut 3",'
                ' "box start", "box disk full", "box disk read-only", "box disk writable"'
                ' and "box command 7 send-inventory"'
            )
        return ScriptStep(kind, tuple(arguments))
    if kind == "document":
        arguments = [arguments[0], " ".join(arguments[1:])] if arguments else []
    form = _FORMS.get(kind)
    if form is None or len(form) != len(arguments) or not all(map(re.fullmatch, form, arguments)):
        raise invalid
    return ScriptStep(
        kind, tuple(arguments), before_s=COMMAND_SECONDS if kind == "command" else ANSWER_SECONDS
    )


def _seconds(text: str) -> float | None:
    match = _DURATION.match(text)
    return float(match[1]) if match else None


def expected_reports(case: Conversation) -> list[dict[str, object]]:
    """Return the reports of a case, with times in milliseconds since 1970."""
    return [
        {key: _ms(str(value)) if key == "at" else value for key, value in report.items()}
        for report in case.reports
    ]


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
