"""Simulated histories are kept without loss, and made again when they are damaged."""

from __future__ import annotations

from pathlib import Path

from sim.backtest.histories import SERIAL, simulated_history
from sim.instruments.history import History
from sim.units import DAY_NS

MODEL, SEED, DAYS = "electrolyte-analyzer", 3, 33


def test_a_kept_history_is_the_one_that_was_simulated(tmp_path: Path) -> None:
    simulated = History(MODEL, SERIAL, SEED)
    expected = list(simulated.until(DAYS * DAY_NS))
    first, second = (simulated_history(MODEL, SEED, DAYS, tmp_path) for _ in range(2))
    assert list(first.reports()) == list(second.reports()) == expected
    assert first.wear == second.wear == simulated.wear()


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    wear = simulated_history(MODEL, SEED, DAYS, tmp_path).wear
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert simulated_history(MODEL, SEED, DAYS, tmp_path).wear == wear
    assert file.read_bytes() == whole
