"""The check of the form of tests finds private names, real sleeps and imports of test modules; exceptions of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import form_of_tests
from tools.form_of_tests import check_tests, findings

FILE = Path("tests/wire/test_example.py")
VIRTUAL = "import asyncio\nfrom sim.net.loop import SimLoop\n"


def kinds(text: str) -> list[str]:
    return [kind for kind, _, _ in findings(FILE, text)]


@pytest.mark.parametrize(
    "text",
    [
        "from wire.tls.context import _configure",
        'monkeypatch.setattr(store, "_engine", None)',
        'monkeypatch.setattr("datacenter.store.Store._engine", None)',
        'patch.object(Queue, "_insert")',
        'getattr(connection, "_served")',
    ],
)
def test_private_names_are_found(text: str) -> None:
    assert kinds(text) == ["private"]


@pytest.mark.parametrize(
    "text",
    [
        "from __future__ import annotations",
        'getattr(connection, "served")',
        'monkeypatch.setattr(store, name, "_engine")',
    ],
)
def test_public_names_are_accepted(text: str) -> None:
    assert kinds(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.sleep(0.1)",
        VIRTUAL + "time.sleep(1)",
        "import asyncio\nasync def test():\n    await asyncio.sleep(0.01)",
        VIRTUAL + "def test():\n    async def run():\n        await asyncio.sleep(1)\n    asyncio.run(run())",
        "from time import sleep",
        "from asyncio import sleep",
    ],
)
def test_real_sleeps_are_found(text: str) -> None:
    assert kinds(text) == ["sleep"]


@pytest.mark.parametrize(
    "text",
    [
        "import asyncio\nasync def test():\n    await asyncio.sleep(0)",
        VIRTUAL + "async def test():\n    await asyncio.sleep(3600)",
        "import asyncio\nfrom tests.support.agents.uplink.uplinked import World\n"
        "async def f():\n  await asyncio.sleep(9)",
    ],
)
def test_sleeps_on_the_simulated_loop_and_of_zero_seconds_are_accepted(text: str) -> None:
    assert kinds(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from tests.wire.http.test_http import echo", ["import"]),
        ("import tests.wire.conftest", ["import"]),
        ("from .test_http import echo", ["import"]),
        ("from tests.support.wire.http_line import echo", []),
    ],
)
def test_imports_of_other_test_modules_are_found(text: str, expected: list[str]) -> None:
    assert kinds(text) == expected


def test_exceptions_are_for_one_file_and_kind_and_must_be_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    FILE.parent.mkdir(parents=True)
    FILE.write_text("from store import _rows\nfrom time import sleep\n")
    monkeypatch.setattr(form_of_tests, "EXCEPTIONS", {(str(FILE), "private"): "a reason"})
    assert [finding.split(": ")[0] for finding in check_tests([FILE])] == [f"{FILE}:2"]
    FILE.write_text("")
    assert list(check_tests([FILE])) == [
        f"{FILE}: no private finding; remove its exception from tools/form_of_tests.py"
    ]
