"""Unusual but valid kickstarts, in `tests/fixtures/harmless.toml`: no rule reports them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from imaging.repository.repository import Repository
from tests.support.imaging.kickstarts import check, good_for, planted
from tests.support.imaging.repositories import BOX, BOX_COMPS, write_repository
from tests.support.paths import FIXTURES

HARMLESS: Final[list[dict[str, Any]]] = tomllib.loads((FIXTURES / "harmless.toml").read_text("utf-8"))[
    "harmless"
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository.load(write_repository(tmp_path_factory.mktemp("repo"), BOX, BOX_COMPS))


@pytest.mark.parametrize("case", HARMLESS, ids=[case["name"] for case in HARMLESS])
def test_an_unusual_but_valid_kickstart_is_not_reported(
    case: dict[str, Any], tmp_path: Path, repository: Repository
) -> None:
    text, _ = planted(good_for(case), {"at": "#version"} | case)
    kickstart = tmp_path / "box.ks"
    kickstart.write_text(text)
    assert check(kickstart, repository).findings == []
