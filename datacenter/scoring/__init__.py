"""Scores of triggers: how many failures they predict, how early, and how often they are wrong.

`matching` compares the alerts of one instrument with the truth about its parts, `tally` adds results
up. docs/design/trigger-scores.md defines each figure.
"""
