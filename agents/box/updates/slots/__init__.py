"""Slots: reading, repairing and writing them, and the boot loader's slot state."""
