"""Benchmarks of the simulator: the virtual world, and its agreement with the kernel world."""
