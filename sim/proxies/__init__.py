"""Proxies as a clinic has them, speaking the real protocols on the simulated network."""
