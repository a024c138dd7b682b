"""Benchmarks of the box program: its spool, its memory and its processor time."""
