"""Simulated histories are stored in files without loss, and simulated again if a file is damaged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sim.backtest.histories import SERIAL, simulated_history, source_files
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


PRINT_SOURCES = """
import sys
import sim.instruments.history
names = [name for name in sys.modules if name.startswith("sim.instruments")]
print(*(sys.modules[name].__file__ for name in names), sep="\\n")
"""


def test_a_change_of_any_module_of_the_simulator_makes_new_files() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", PRINT_SOURCES], capture_output=True, text=True, check=True
    )
    imported = {Path(line) for line in printed.stdout.split()}
    assert any(file.name == "wear.py" for file in imported)
    assert not imported - set(source_files())
