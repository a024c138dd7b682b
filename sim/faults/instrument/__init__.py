"""Faults of an instrument, or of a hostile program on its computer."""
