"""Releases and rollouts: which box installs which release when, and with which result."""
