"""Policies: reading Cedar files into typed conditions, and using these for decisions and for lists."""
