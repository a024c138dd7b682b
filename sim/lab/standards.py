"""The keys of a lab file about instruments that speak their own standard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from settings.board import Board
from settings.form import Form
from settings.problems import Problems
from settings.profile import Speaks, load_profile, profile_names
from settings.toml import format_value, nearest
from sim.instruments.host_interface.dialects import OPTIONS, contradiction, options_of
from sim.units import SECOND_NS

SERIAL_STANDARDS: Final = ("astm-serial", "au")
RANDOM: Final = "random"


@dataclass(frozen=True, slots=True)
class DialectForm(Form):
    """A list of dialect options, or "random"."""

    @property
    def rule(self) -> str:
        """A description of the accepted values, for the reference page."""
        return 'list of dialect options, or "random"'

    def read(self, given: object) -> tuple[str, ...] | str:
        """Convert the TOML value. Raises: ValueError, saying what would be right."""
        if given == RANDOM:
            return RANDOM
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            raise ValueError('give a list of dialect options, such as ["many-writes"], or "random"')
        return tuple(given)

    def write(self, value: Any) -> object:
        """Convert back to a TOML value."""
        return value if value == RANDOM else list(value)


class _Instrument(Protocol):
    @property
    def port(self) -> int: ...
    @property
    def model(self) -> str: ...
    @property
    def speaks(self) -> Speaks | None: ...
    @property
    def dialect(self) -> tuple[str, ...] | str: ...
    @property
    def report_every(self) -> int: ...


def standard_of_model(model: str) -> Speaks:
    """Return the standard of a model according to its profile; "agent" for a model without a profile."""
    return load_profile(model).speaks if model in profile_names() else "agent"


def serial_ports(instruments: Sequence[_Instrument], board: Board) -> dict[int, int]:
    """Map the ports of instruments with a serial line, in their order, to the board's serial ports, lowest first."""
    ports = [
        instrument.port
        for instrument in instruments
        if standard_of_model(instrument.model) in SERIAL_STANDARDS
    ]
    return dict(zip(ports, sorted(board.serial_ports), strict=False))


def check_standards(instruments: Sequence[_Instrument], board: Board | None, problems: Problems) -> None:
    """Add a problem for each mistake about standards and dialects."""
    for index, instrument in enumerate(instruments):
        standard = standard_of_model(instrument.model)
        key = ("instrument", index)
        if instrument.speaks not in (None, standard):
            problems.add((*key, "speaks"), _wrong_standard(instrument.model, standard, instrument.speaks))
            continue
        if standard != "agent" and instrument.report_every < SECOND_NS:
            problems.add(
                (*key, "report_every"), f"must be at least 1s, since {standard} sends times in whole seconds"
            )
        if instrument.dialect != RANDOM:
            _check_dialect(standard, tuple(instrument.dialect), (*key, "dialect"), problems)
        elif standard == "agent":
            problems.add(
                (*key, "dialect"), "is for instruments that speak a standard; the vendor's agent has none"
            )
    if board is not None:
        _check_lines(instruments, board, problems)


def _wrong_standard(model: str, standard: str, given: Speaks | None) -> str:
    models = [name for name in profile_names() if standard_of_model(name) == given]
    return f'{format_value(given)}: {model} speaks "{standard}"; models that speak "{given}" are {", ".join(models)}'


def _check_dialect(
    standard: str, names: tuple[str, ...], key: tuple[str | int, ...], problems: Problems
) -> None:
    known = options_of(standard)
    if names and not known:
        problems.add(key, "is for instruments that speak a standard; the vendor's agent has no options")
        return
    for name in names:
        if name in known:
            continue
        if name in OPTIONS:
            others = " or ".join(f'"{standard_name}"' for standard_name in OPTIONS[name].speaks)
            correction = f'is an option of {others}; the options of "{standard}" are {", ".join(known)}'
        else:
            correction = nearest(name, known)
        problems.add(key, f"{format_value(name)}: {correction}")
    if clash := contradiction(name for name in names if name in known):
        problems.add(key, f'"{clash[0]}" and "{clash[1]}" contradict each other; give one of them')


def _check_lines(instruments: Sequence[_Instrument], board: Board, problems: Problems) -> None:
    lines = [n for n, one in enumerate(instruments) if standard_of_model(one.model) in SERIAL_STANDARDS]
    port_count = len(board.serial_ports)
    available = {0: "no serial port", 1: "1 serial port, which is in use"}.get(
        port_count, f"{port_count} serial ports, all in use"
    )
    for index in lines[port_count:]:
        message = f"{instruments[index].model} has an RS-232 line; {board.name} has {available}"
        problems.add(("instrument", index, "model"), message)
