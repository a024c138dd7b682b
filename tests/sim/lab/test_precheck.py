"""`rap lab check` refuses valid lab files with expectations that cannot be evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest

from rap.__main__ import main
from sim.lab.labfile import lab_paths, load_lab, parse_lab
from sim.pytest_plugin import SMALL_LAB
from sim.verdict.precheck import unmeasurable_expectations

DRAINED = '[expect]\nbacklog_drained_within = "1min"\n'


def event(target: str, at: str = "1h", lasts: str = "") -> str:
    return f'[[event]]\nat = "{at}"\nfault = "link-down"\ntarget = "{target}"\n{lasts}\n'


@pytest.mark.parametrize(
    ("events", "problems"),
    [
        ("", 1),
        (event("uplink"), 1),
        (event("instrument:1", lasts='lasts = "1h"'), 1),
        (event("uplink", lasts='lasts = "1h"'), 0),
    ],
)
def test_a_backlog_needs_an_outage_that_ends(events: str, problems: int) -> None:
    assert len(unmeasurable_expectations(parse_lab(SMALL_LAB + events + DRAINED, Path("x.toml")))) == problems


@pytest.mark.parametrize(
    ("targets", "problems"), [([], 1), (["uplink"], 1), ([1], 0), ([1, "uplink"], 0), ([1, 2], 1)]
)
def test_the_latency_of_other_ports_needs_an_event_at_a_port_and_another_port(
    targets: list[object], problems: int
) -> None:
    names = [f"instrument:{target}" if isinstance(target, int) else str(target) for target in targets]
    events = "".join(event(name, lasts='lasts = "1min"') for name in names)
    expect = '[expect]\nother_ports_latency_p99 = "1min"\n'
    found = unmeasurable_expectations(parse_lab(SMALL_LAB + events + expect, Path("x.toml")))
    assert len(found) == problems
    assert all("one more instrument, or leave the key out" in line for line in found)


def test_a_lab_without_a_connected_instrument_has_nothing_to_check() -> None:
    cut = event("instrument:1", "0s"), event("instrument:2", "0s")
    assert len(unmeasurable_expectations(parse_lab(SMALL_LAB + "".join(cut), Path("x.toml")))) == 1
    assert unmeasurable_expectations(parse_lab(SMALL_LAB + cut[0], Path("x.toml"))) == []
    without_power = '[[event]]\nat = "0s"\nfault = "power-cut"\ntarget = "box"\n'
    (message,) = unmeasurable_expectations(parse_lab(SMALL_LAB + without_power, Path("x.toml")))
    assert "no instrument can report at any time of the lab" in message


def test_lab_check_fails_and_suggests_a_correction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.toml"
    path.write_text(SMALL_LAB + DRAINED)
    assert main(["lab", "check", str(path)]) == 1
    assert "with `lasts`, or leave the key out" in capsys.readouterr().out


@pytest.mark.parametrize("path", [*lab_paths(), *lab_paths(Path("labs/minutes"))], ids=str)
def test_every_lab_of_the_repository_has_something_to_check(path: Path) -> None:
    assert unmeasurable_expectations(load_lab(path)) == []
