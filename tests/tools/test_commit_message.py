"""Malformed commit messages are refused; each error states the correction."""

from __future__ import annotations

import pytest

from tools.commit_message import problems


@pytest.mark.parametrize(
    "message",
    [
        "netfw: repair single addresses",
        "hal, wire, netfw: list exceptions under Raises\n\nWhy.\n",
        "agents/spool: use standard terms\n\nWhy.\n# a comment of git\n",
        "docs: " + "x" * 66,
        "Merge branch 'main'",
        "# only\nnetfw: a comment comes first",
    ],
)
def test_a_message_in_the_required_form_is_accepted(message: str) -> None:
    assert list(problems(message)) == []


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("", "write `area: imperative summary`"),
        ("Repair single addresses", "write `area: imperative summary`"),
        ("netfw: Repair single addresses", "write `area: imperative summary`"),
        ("netfw: repair single addresses.", "without a full stop"),
        ("netfw:repair", "write `area: imperative summary`"),
        ("docs: " + "x" * 67, "73 characters; at most 72"),
        ("docs: fix\nbecause", "leave it empty"),
    ],
)
def test_a_message_of_another_form_is_refused(message: str, problem: str) -> None:
    errors = list(problems(message))
    assert len(errors) == 1 and problem in errors[0]
