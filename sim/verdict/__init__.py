"""Evaluation of a run: ledger of reports, checks, statistics, result."""
