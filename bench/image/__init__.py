"""Benchmarks of images and of flashing."""
