"""Simulated histories are stored in files without loss, and simulated again if a file is damaged."""

from __future__ import annotations

from pathlib import Path

from sim.backtest.histories import SERIAL, simulated_history
from sim.instruments.history import History
from sim.units import DAY_NS

MODEL, SEED, DAYS = "electrolyte-analyzer", 3, 33


def test_a_stored_history_equals_the_simulated_one(tmp_path: Path) -> None:
    simulated = History(MODEL, SERIAL, SEED)
    expected = list(simulated.until(DAYS * DAY_NS))
    first, second = (simulated_history(MODEL, SEED, DAYS, tmp_path) for _ in range(2))
    assert list(first.reports()) == list(second.reports()) == expected
    assert first.wear == second.wear == simulated.wear()


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    wear = simulated_history(MODEL, SEED, DAYS, tmp_path).wear
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert simulated_history(MODEL, SEED, DAYS, tmp_path).wear == wear
    assert file.read_bytes() == content
