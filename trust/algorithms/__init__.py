"""Finds cryptographic algorithms that FIPS 140-3 does not approve: in Python code, configuration and certificates.

`scan` reads files and executes nothing. What is used for compatibility, or not for security, is an exception with a
reason in `exceptions.toml`.
"""
