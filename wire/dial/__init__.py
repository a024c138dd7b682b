"""Outgoing connections, direct or through a proxy, with timeouts and back-off."""
