"""Test hierarchies of certificates, in memory and in a folder."""
