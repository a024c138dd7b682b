"""Signing in and out: the page, OpenID Connect, sessions, and the limit of refused attempts."""
