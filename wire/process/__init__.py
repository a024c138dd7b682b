"""Bounds of a server process: descriptors, memory, rates, log records, and the time of its shutdown."""
