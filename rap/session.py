"""`rap session`: remote sessions, their transition table and its exploration."""

from __future__ import annotations

import argparse
import json

from rap.outcome import FAILED, OK, WrongInput
from rap.parser import Parser

SUMMARY = "remote sessions: their transition table and its exploration"


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap session`."""
    table = parser.add_command("table", "print the transition table of sessions")
    table.add_argument("--json", action="store_true", help="print it as JSON")
    table.set_command(_table)
    explore = parser.add_command(
        "explore", "explore everything that can happen to sessions, and check the properties of the table"
    )
    explore.add_argument(
        "--without", metavar="GUARD", action="append", default=[], help="remove a guard from every row before"
    )
    explore.add_argument("--quick", action="store_true", help="fewer disturbances: a few seconds")
    explore.add_argument("--json", action="store_true", help="print the result as JSON")
    explore.set_command(_explore)


def _table(arguments: argparse.Namespace) -> int:
    from wire.session.table import TABLE

    if arguments.json:
        print(json.dumps([row._asdict() for row in TABLE], indent=2))
        return OK
    for row in TABLE:
        print(f"{row.name} ({', '.join(row.actors)})")
        print(f"    from {', '.join(row.states)}" + (f"; cause: {row.cause}" if row.cause else ""))
        for word, values in (("if", row.guards), ("then", row.actions)):
            if values:
                print(f"    {word} {', '.join(values)}")
    return OK


def _explore(arguments: argparse.Namespace) -> int:
    from sim.sessions.explore import explore
    from sim.sessions.model import QUICK, WHOLE
    from sim.sessions.mutants import without
    from wire.session.guards import GUARDS
    from wire.session.table import TABLE

    table = TABLE
    for guard in arguments.without:
        if guard not in GUARDS:
            raise WrongInput(f"{guard} is not a guard; use one of {', '.join(GUARDS)}")
        table = without(guard, table)
    explored = []
    for scope in QUICK if arguments.quick or arguments.without else WHOLE:
        explored.append(explore(scope, table))
        if not arguments.json:
            print(explored[-1].text(), flush=True)
        if explored[-1].violation:
            break
    if arguments.json:
        print(json.dumps([each.as_json() for each in explored], indent=2))
    return FAILED if explored[-1].violation else OK
