"""Lab files: reading, checking, and a lab as a value."""
