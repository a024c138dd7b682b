"""Simulated laboratories: virtual time, links, proxies, instruments, faults, worlds, and what they find."""
