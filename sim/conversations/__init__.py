"""Recorded conversations of instruments, played against the box's intake in virtual time (`rap profile replay`)."""
