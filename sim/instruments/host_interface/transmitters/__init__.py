"""Transmitters: the instrument's end of a line, one module per protocol."""
