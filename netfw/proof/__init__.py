"""Theorems about a ruleset, proved by an SMT solver."""
