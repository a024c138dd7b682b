"""Shared parts of server processes: bounds on descriptors, memory and rates, forced exit, durable files."""
