"""Outgoing connections: directly or through a proxy, with time-outs and back-off."""
