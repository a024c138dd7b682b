"""Releases and rollouts: which box installs which release when, and what came of it."""
