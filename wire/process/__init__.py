"""Shared parts of server processes: bounds of descriptors, memory and rates, a timely end, durable files."""
