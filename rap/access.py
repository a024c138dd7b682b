"""`rap access`: who may do what in the data center."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rap.outcome import FAILED, OK, WrongInput
from rap.parser import Parser

if TYPE_CHECKING:
    from datacenter.access.policy import PolicySet

SUMMARY = "access control of the data center: policies and their proofs"


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap access`."""
    check = parser.add_command("check", "check policy files")
    _add_policies(check)
    check.set_command(_check)
    prove = parser.add_command("prove", "prove what policies guarantee")
    _add_policies(prove)
    prove.add_argument("--theorems", metavar="FILE", type=Path, help="TOML file with theorems")
    prove.set_command(_prove)


def _add_policies(parser: Parser) -> None:
    parser.add_argument(
        "policies", metavar="POLICY", nargs="*", type=Path, help="Cedar files; default: those of this version"
    )


def _read(files: list[Path]) -> PolicySet:
    from datacenter.access.policyfile import SHIPPED, read_policies
    from settings.problems import SettingsError

    try:
        return read_policies(files or SHIPPED)
    except SettingsError as error:
        raise WrongInput(str(error)) from error


def _check(arguments: argparse.Namespace) -> int:
    from datacenter.access.policyfile import SHIPPED, read_each
    from datacenter.access.prove import without_effect

    policies, errors = read_each(arguments.policies or SHIPPED)
    for error in errors:
        print(error)
    if errors:
        return FAILED
    useless = list(without_effect(policies))
    for policy, message in useless:
        print(f"{policy.file}:{policy.line}: {policy.id}: {message}")
    if useless:
        return FAILED
    print(f"{len(policies.policies)} policies: valid")
    return OK


def _prove(arguments: argparse.Namespace) -> int:
    from datacenter.access.prove import prove
    from datacenter.access.theorems import SHIPPED_THEOREMS, read_theorems
    from settings.problems import SettingsError

    policies = _read(arguments.policies)
    try:
        theorems = read_theorems(arguments.theorems or SHIPPED_THEOREMS)
    except SettingsError as error:
        raise WrongInput(str(error)) from error
    failed = 0
    for result in prove(policies, theorems):
        table = result.theorem.table
        print(f"{'proven' if result.holds else 'FALSE':8} {table.name:20} {table.text}")
        if not result.holds:
            failed += 1
            print(f"         {result.words}")
    print(f"{len(theorems) - failed} theorems proven{f', {failed} false' if failed else ''}")
    return FAILED if failed else OK
