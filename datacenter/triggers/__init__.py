"""Triggers: conditions over an instrument's reports that raise alerts before the instrument fails.

A trigger is a TOML file (`triggerfile`) with a condition, for example

    when = "ewma(lamp-intensity-pct, 64) < 70 and state is running"

`syntax` parses it, and `tree` checks it against the instrument's profile and reduces it to comparisons of *terms*. A
term (`terms/`) is a number that is computed from the reports, as a small state machine over integers: the latest
reading, an exponentially weighted mean, a count within a window. Its transition is Python source text with only
integers and conditional expressions, so that one definition serves three evaluators:

    machine   compiles it to instructions that a C program executes: for a report (`live`), or for the reports of many
              instruments (`columns`), for back-tests
    scalar    compiles it to one Python function for each kind of report, for installations without a C compiler
    proof     lowers conditions to z3: whether a trigger can ever fire, and whether another implies it

All compute with integers, so that their verdicts are equal. Reports are evaluated in the order of their
(run, number), regardless of their order of arrival.
"""
