"""Outgoing connections, direct or through a proxy, with time-outs and back-off."""
