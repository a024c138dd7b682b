"""Lab files: the parsed values, and the message for each mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest

from settings.problems import SettingsError
from sim.engine.layers import nothing_to_end
from sim.faults import End, Fault, fault_kinds
from sim.lab.labfile import Lab, load_lab, parse_lab
from sim.units import HOUR_NS, MINUTE_NS, SECOND_NS
from sim.values import CountForm, Nanoseconds

CLINIC = """\
[lab]
name = "clinic"
duration = "24h"

[box]
board = "rap-4"

[uplink]
rate = "128kbit"
delay = "40ms"
loss = "0.5%"
proxy = { kind = "http", auth = "basic" }

[[instrument]]
port = 1
model = "chemistry-analyzer"

[[instrument]]
port = 3
model = "hematology-analyzer"
report_every = "10s"

[[event]]
at = "8h"
fault = "shake"
target = "box"
times = 2

[[event]]
at = "2h"
fault = "dim"
target = "instrument:3"
lasts = "3h"
every = "5ms"

[expect]
backlog_drained_within = "10min"
"""
PATH = Path("clinic.toml")
MODELS = ("chemistry-analyzer", "hematology-analyzer")


class Shake(Fault[Any], frozen=True):
    times: Annotated[int, CountForm(1, 3)]

    async def start(self, world: list[str], target: str) -> End:
        world.append(target)
        return nothing_to_end


class Dim(Fault[Any], frozen=True):
    every: Nanoseconds = 0

    async def start(self, world: list[str], target: str) -> End:
        world.append(target)
        return nothing_to_end


class Refuse(Dim, frozen=True):
    pass


Shake.kind, Shake.targets, Shake.momentary = "shake", ("box",), True
Dim.kind, Dim.targets, Dim.momentary = "dim", ("uplink", "instrument"), False
Refuse.kind, Refuse.targets, Refuse.momentary = "refuse", ("proxy",), False
FAULTS: dict[str, Any] = {"shake": Shake, "dim": Dim, "refuse": Refuse}


def parse(text: str) -> Lab:
    return parse_lab(text, PATH, models=MODELS, faults=FAULTS)


def test_the_values_of_a_lab_file_are_parsed() -> None:
    lab = parse(CLINIC)
    assert (lab.name, lab.about.duration, lab.about.start) == ("clinic", 24 * HOUR_NS, 6 * HOUR_NS)
    assert lab.board.name == "rap-4"
    assert (lab.uplink.rate, lab.uplink.delay, lab.uplink.loss) == (128_000, 40_000_000, 0.005)
    assert lab.uplink.proxy is not None
    assert lab.uplink.proxy.auth == "basic"
    assert [i.report_every for i in lab.instruments] == [MINUTE_NS, 10 * SECOND_NS]
    assert [i.serial for i in lab.instruments] == ["CHEM-0001", "HEMA-0003"]
    assert lab.expect.backlog_drained_within == 10 * MINUTE_NS
    assert (lab.expect.lost, lab.expect.duplicates, lab.expect.dropped) == (0, 0, 0)


def test_events_are_in_order_of_time_with_the_parameters_of_their_faults() -> None:
    dim, shake = parse(CLINIC).events
    assert (dim.at, dim.lasts, dim.target, dim.fault) == (
        2 * HOUR_NS, 3 * HOUR_NS, "instrument:3", Dim(every=5_000_000),
    )  # fmt: skip
    assert (shake.at, shake.lasts, shake.fault) == (8 * HOUR_NS, None, Shake(times=2))


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("rate =", "ratte =", "9: uplink.ratte: unknown key; did you mean rate?"),
        ('rate = "128kbit"', "", "8: uplink.rate: is missing; expected a rate, 1kbit to 10gbit"),
        ('"128kbit"', '"128kbps"', '9: uplink.rate: "128kbps": write it like'),
        ('"128kbit"', '"1bit"', '9: uplink.rate: "1bit": must be from 1kbit to 10gbit'),
        ('"40ms"', "40", '10: uplink.delay: 40: write it like "90s"'),
        ('"0.5%"', '"51%"', '11: uplink.loss: "51%": must be from 0% to 50%'),
        ('"http"', '"https"', '12: uplink.proxy.kind: "https": did you mean http?'),
        ('"basic"', '"password"', 'uplink.proxy.auth: "password": with kind "http" give "none", "basic", '),
        ('"basic"', '"password"', '"digest", "ntlm" or "negotiate"'),
        ("{ kind", "3 #", "12: uplink.proxy: must be one table, with kind, auth"),
        ('"24h"', '"31d"', '3: lab.duration: "31d": must be from 1s to 30d'),
        ('"clinic"', '"My Clinic"', '2: lab.name: "My Clinic": give lower-case letters'),
        ('"24h"', '"24h"\nstart = "24:00"', '4: lab.start: "24:00": give a time of day'),
        ('"24h"', '"24h"\nmeant_to_fail = 1', "4: lab.meant_to_fail: 1: must be true or false"),
        ("rap-4", "rap-5", '6: box.board: "rap-5": did you mean rap-'),
        ("port = 3", "port = 7", "19: instrument[1].port: rap-4 has no port 7; it has 1, 2, 3, 4"),
        ("port = 3", "port = 1", "19: instrument[1].port: port 1 has more than one instrument"),
        ("port = 3", "port = true", "19: instrument[1].port: true: give a whole number"),
        (
            "port = 3",
            'port = 3\nserial = "CHEM-0001"',
            '20: instrument[1].serial: "CHEM-0001": another instrument has the same',
        ),
        ('"hematology-analyzer"', '"hema"', '20: instrument[1].model: "hema": must be one of'),
        ('"10s"', '"99ms"', '21: instrument[1].report_every: "99ms": must be from 100ms to 1d'),
        ('"shake"', '"shaky"', '25: event[0].fault: "shaky": did you mean shake?'),
        ("times = 2", "times = 4", "27: event[0].times: 4: must be from 1 to 3"),
        ("times = 2", "", "23: event[0].times: is missing; expected whole number, 1 to 3"),
        ('target = "box"', 'tagret = "box"', "23: event[0].target: is missing; expected the name of a target"),
        ("times = 2", "tmies = 2", "27: event[0].tmies: unknown key; did you mean times?"),
        ('"instrument:3"', '"instrument:2"', '32: event[1].target: "instrument:2": did you mean instrument:'),
        ('"dim"', '"refuse"', '32: event[1].target: "instrument:3": must be proxy'),
        ('"2h"', '"24h"', "30: event[1].at: must be before the lab ends, at 1d"),
        ('"3h"', '"23h"', "33: event[1].lasts: at most 22h remain until the lab ends"),
        ("[expect]", "[expct]", "36: expct: unknown key; did you mean expect?"),
        ("[lab]", "[lab", "is not TOML"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_line_and_a_correction(right: str, wrong: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(CLINIC.replace(right, wrong, 1))
    assert str(caught.value).startswith("clinic.toml:")
    assert message in str(caught.value)


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        parse(CLINIC.replace("24h", "24").replace("times = 2", "times = 9").replace("10min", "ten"))
    keys = [line.split(": ")[1] for line in str(caught.value).splitlines()]
    assert keys == ["lab.duration", "expect.backlog_drained_within", "event[0].times"]


def test_a_fault_of_the_proxy_needs_a_proxy() -> None:
    text = CLINIC.replace("proxy = {", "# proxy = {").replace('"shake"', '"refuse"').replace("times = 2", "")
    with pytest.raises(SettingsError, match="refuse needs a proxy"):
        parse(text)


def test_a_fault_may_begin_again_while_it_lasts() -> None:
    again = '[[event]]\nat = "{}"\nfault = "dim"\ntarget = "instrument:3"\n\n[expect]'
    for at in ("4h", "5h"):
        assert len(parse(CLINIC.replace("[expect]", again.format(at))).events) == 3


def test_a_lab_needs_an_instrument() -> None:
    text = "\n\n".join(part for part in CLINIC.split("\n\n") if not part.startswith(("[[", "[expect")))
    with pytest.raises(SettingsError, match=r"instrument: is missing"):
        parse(text)


@pytest.mark.parametrize(("content", "message"), [(None, "cannot be read"), (b"\xff", "UTF-8")])
def test_an_unreadable_file_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "lab.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        load_lab(path)


def test_every_kind_of_fault_is_registered_and_documented() -> None:
    kinds = fault_kinds()
    assert list(kinds) == sorted(kinds)
    assert {"link-down", "power-cut", "disk-full"} <= set(kinds)
    for kind, cls in kinds.items():
        assert cls.kind == kind
        assert cls.__doc__
