"""Benchmarks of the simulator: the virtual world, and the kernel world beside it."""
