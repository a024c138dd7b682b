"""`rap trigger`: conditions over reports that raise alerts."""

from __future__ import annotations

from pathlib import Path

from rap.parser import Parser
from rap.trigger.check import check
from rap.trigger.test import add_options, test
from rap.trigger.why import add_options as add_why_options
from rap.trigger.why import why


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap trigger`."""
    checked = parser.add_command("check", "check trigger files")
    checked.add_argument("files", metavar="FILE", nargs="+", type=Path, help="files of a set of triggers")
    checked.set_command(check)
    tested = parser.add_command("test", "score triggers on simulated or stored histories")
    add_options(tested)
    tested.set_command(test)
    explained = parser.add_command("why", "recompute an alert from the stored reports, and explain it")
    add_why_options(explained)
    explained.set_command(why)
