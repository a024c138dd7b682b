"""Test certificate hierarchies, in memory and in a directory."""
