"""The virtual world: a whole lab in one process, in SimPy time."""
