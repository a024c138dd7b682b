"""Thirty rules, compared with Prometheus: `python -m bench.datacenter.promtool [--json]`.

The same thirty rules, over the ten readings of a chemistry analyzer, are evaluated each minute for the same readings:
by `promtool test rules` and by both evaluators of triggers. A rule is a limit of the reading, of its mean within an
hour, or of its greatest value within an hour, that must hold for ten minutes. promtool's time includes loading the
readings into its storage, without which it cannot evaluate. All in processor time.
"""

from __future__ import annotations

import json
import resource
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.datacenter.scale import scaled
from bench.figures import Figure, figure, run
from datacenter.triggers.columns import ColumnEvaluator, InputColumn, ReportColumns
from datacenter.triggers.live import LiveEvaluator, LiveFunctions
from datacenter.triggers.terms.inputs import Reading
from datacenter.triggers.triggerfile import Trigger
from settings.profile import load_profile
from tests.support.datacenter.evaluation.triggers import MODEL, trigger
from wire.messages import Status

INSTRUMENTS: Final = scaled(300, 10)
MINUTES: Final = scaled(240, 30)
CHANNELS: Final = list(load_profile(MODEL).channels)
LIMITS: Final = range(60, 100, 4)
_FORMS: Final = (
    ("{name} > {limit}", "{metric} > {limit}"),
    ("mean({name}, 1h) > {limit}", "avg_over_time({metric}[1h]) > {limit}"),
    ("max({name}, 1h) > {limit}", "max_over_time({metric}[1h]) > {limit}"),
)
"""A condition of a trigger, and the expression of a rule."""


def _metric(name: str) -> str:
    return name.replace("-", "_")


def make_readings() -> npt.NDArray[np.int64]:
    """Return readings by channel, instrument and minute: below all limits, except one in the last minutes."""
    random = np.random.default_rng(1)
    readings = random.normal(50, 5, (len(CHANNELS), INSTRUMENTS, MINUTES)).astype(np.int64)
    readings = np.minimum(readings, LIMITS[0] - 1)
    readings[0, 0, -15:] = LIMITS[0] + 1
    return readings


def make_triggers() -> list[Trigger]:
    """Return the thirty triggers."""
    return [
        trigger(form.format(name=name, limit=limit), lasts="10min", name=f"{_metric(name)}{index}")
        for name, limit in zip(CHANNELS, LIMITS, strict=True)
        for index, (form, _) in enumerate(_FORMS)
    ]


def write_rules(folder: Path, readings: npt.NDArray[np.int64]) -> Path:
    """Write the rules and their test for promtool, in JSON, which is YAML; return the file of the test.

    The test expects the alert of the raised reading.
    """
    rules = [
        {
            "alert": f"{_metric(name)}{index}",
            "expr": form.format(metric=_metric(name), limit=limit),
            "for": "10m",
        }
        for name, limit in zip(CHANNELS, LIMITS, strict=True)
        for index, (_, form) in enumerate(_FORMS)
    ]
    group = {"name": "triggers", "interval": "1m", "rules": rules}
    (folder / "rules.yml").write_text(json.dumps({"groups": [group]}))
    series = [
        {
            "series": f'{_metric(name)}{{instrument="{instrument}"}}',
            "values": " ".join(map(str, readings[index, instrument].tolist())),
        }
        for index, name in enumerate(CHANNELS)
        for instrument in range(INSTRUMENTS)
    ]
    expected = {
        "eval_time": f"{MINUTES - 1}m",
        "alertname": f"{_metric(CHANNELS[0])}0",
        "exp_alerts": [{"exp_labels": {"instrument": "0"}}],
    }
    test = {"interval": "1m", "input_series": series, "alert_rule_test": [expected]}
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    file = folder / "test.yml"
    file.write_text(json.dumps(document))
    return file


def promtool_seconds(readings: npt.NDArray[np.int64]) -> float:
    """Return the processor seconds of promtool."""
    with TemporaryDirectory(prefix="rap-promtool-") as folder:
        file = write_rules(Path(folder), readings)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = subprocess.run(
            ["promtool", "test", "rules", str(file)], cwd=folder, capture_output=True, text=True, check=False
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def live_seconds(readings: npt.NDArray[np.int64]) -> float:
    """Return the processor seconds of the live evaluation."""
    functions = LiveFunctions(make_triggers())
    seconds = 0.0
    for instrument in range(INSTRUMENTS):
        rows = readings[:, instrument].T.tolist()
        reports = [
            Status(minute + 1, minute * 60_000, "running", 0, dict(zip(CHANNELS, row, strict=True)))
            for minute, row in enumerate(rows)
        ]
        evaluator = LiveEvaluator(functions)
        changes = []
        began = time.process_time()
        for report in reports:
            changes += evaluator.evaluate(report)
        seconds += time.process_time() - began
        assert len(changes) == (2 if instrument == 0 else 0), (
            "the limits of the raised reading and of its maximum"
        )
    return seconds


def column_seconds(readings: npt.NDArray[np.int64]) -> float:
    """Return the processor seconds of the back-test."""
    evaluator = ColumnEvaluator(make_triggers(), INSTRUMENTS)
    every, at_ms = np.ones(MINUTES, np.bool_), np.arange(MINUTES) * 60_000
    parts = [
        ReportColumns(
            at_ms,
            {
                Reading(name): InputColumn(readings[index, instrument], every)
                for index, name in enumerate(CHANNELS)
            },
        )
        for instrument in range(INSTRUMENTS)
    ]
    began = time.process_time()
    changes = list(evaluator.evaluate(parts))
    seconds = time.process_time() - began
    assert len(changes) == 2, "the limits of the raised reading and of its maximum"
    return seconds


def figures() -> list[Figure]:
    """Return all figures."""
    readings = make_readings()
    prometheus = promtool_seconds(readings)
    live, columns = (min(measure(readings) for _ in range(2)) for measure in (live_seconds, column_seconds))
    count = INSTRUMENTS * MINUTES
    return [
        figure("thirty rules for a report, promtool", "µs", prometheus / count * 1e6),
        figure("thirty rules for a report, live", "µs", live / count * 1e6),
        figure("thirty rules for a report, as back-test", "µs", columns / count * 1e6),
        figure("promtool to live", "", prometheus / live, ">= 20"),
        figure("promtool to back-test", "", prometheus / columns),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
