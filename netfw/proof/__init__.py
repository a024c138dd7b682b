"""Theorems on a ruleset, proved by an SMT solver."""
