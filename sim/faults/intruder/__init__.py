"""Faults of intruders: programs that try to reach what the firewall must block."""
