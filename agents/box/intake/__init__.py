"""How instruments' reports get in: validated, deduplicated, durable before they are acknowledged."""
