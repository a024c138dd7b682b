"""Scores of triggers: the share of predicted failures, the lead time, and the rate of false alarms.

`matching` compares the alerts of one instrument with the truth about its parts, `tally` adds results
up. docs/design/trigger-scores.md defines each figure.
"""
