"""Signing in and out: the page, sign-on by OpenID Connect, and the limit of refused attempts."""
