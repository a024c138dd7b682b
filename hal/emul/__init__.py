"""Emulated hardware. Each device implements its trait, and has a `.backend` through which faults are injected.

Only the simulator and tests use `.backend`.
"""
