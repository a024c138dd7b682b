"""Every route is protected: the checks of access control have no findings, and omit no route or parameter."""

from __future__ import annotations

import re

import pytest

from datacenter.web.pages import ROUTES
from datacenter.web.routes import WebRoute
from tests.support.datacenter.access.checks import (
    AMERICA,
    CHECKS,
    EUROPE,
    NAMING,
    NOT_NAMING,
    UNKNOWN,
    named,
    walking,
)


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_finds_nothing(name: str) -> None:
    with walking() as walk:
        assert list(CHECKS[name](walk)) == []


@pytest.mark.parametrize("row", ROUTES, ids=named)
def test_the_checks_know_every_name_in_a_path(row: WebRoute) -> None:
    missing = set(re.findall(r"{(\w+)}", row.path)) - set(EUROPE)
    assert not missing, f"add {missing} to EUROPE, AMERICA and UNKNOWN of access_checks.py"


@pytest.mark.parametrize("row", ROUTES, ids=named)
def test_the_checks_know_every_parameter(row: WebRoute) -> None:
    missing = set(row.parameters.__struct_fields__) - set(NAMING) - NOT_NAMING
    assert not missing, f"add {missing} to NAMING or NOT_NAMING of access_checks.py"


def test_unknown_names_are_as_long_as_foreign_ones() -> None:
    assert [*map(len, AMERICA.values())] == [*map(len, UNKNOWN.values())]
    assert EUROPE.keys() == AMERICA.keys() == UNKNOWN.keys()
    assert all(len(foreign) == len(unknown) for foreign, unknown in NAMING.values())
