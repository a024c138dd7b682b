"""Rulesets with one error in the rules of bridged desktops; see `tests.support.netfw.mutants`."""

from __future__ import annotations

from tests.support.netfw.mutants import BACK4, THERE4, Mutant

BRIDGE_MUTANTS = [
    Mutant(
        "staff reach the box without a session", "staff", lambda d: d.without("input", THERE4, "@sessions4")
    ),
    Mutant(
        "staff reach the box for any port",
        "staff",
        lambda d: d.replace("input", THERE4, '"dport"', '"sport"'),
    ),
    Mutant(
        "instruments answer without a session",
        "instrument",
        lambda d: d.without("input", BACK4, "@sessions4"),
    ),
    Mutant(
        "the box reaches instruments without a session",
        "answers",
        lambda d: d.without("output", THERE4, "@sessions4"),
    ),
    Mutant(
        "the box answers staff without a session",
        "elsewhere",
        lambda d: d.without("output", BACK4, "@sessions4"),
    ),
    Mutant(
        "the box sends more than answers to staff",
        "elsewhere",
        lambda d: d.without("output", BACK4, "direction"),
    ),
    Mutant(
        "a bridge of another policy",
        "elements",
        lambda d: d.add("sessions4", "10.77.1.1", "enp3s0", "10.77.2.5", "tcp", 5900),
    ),
    Mutant("requests to a bridge dropped", "bridges in", lambda d: d.drop_rule("input", *THERE4)),
    Mutant("answers to a bridge dropped", "bridges in", lambda d: d.drop_rule("input", *BACK4)),
    Mutant("requests of a bridge dropped", "bridges out", lambda d: d.drop_rule("output", *THERE4)),
    Mutant("answers of a bridge dropped", "bridges out", lambda d: d.drop_rule("output", *BACK4)),
]
