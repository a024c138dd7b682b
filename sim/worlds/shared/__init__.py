"""What the worlds have in common: instruments, addresses, firewall policy, meters, faults, verdict."""
