"""Simulated laboratories: virtual time, links, proxies, instruments, faults, worlds, verdicts and reports."""
