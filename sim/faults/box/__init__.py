"""Faults of the box: its power, its program, its clock."""
