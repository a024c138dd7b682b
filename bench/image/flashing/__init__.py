"""Benchmarks of flashing: speed, power cuts, slow disks, and disks in use."""
