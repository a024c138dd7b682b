"""Profiles and send intervals of data releases, as the running box program uses them."""
