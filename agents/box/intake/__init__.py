"""Intake of instruments' reports: validated, deduplicated, durable before they are acknowledged."""
