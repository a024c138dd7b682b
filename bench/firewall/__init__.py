"""Benchmarks of the firewall on this machine's kernel."""
