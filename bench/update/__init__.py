"""Benchmarks of updates: `make bench-update`."""
