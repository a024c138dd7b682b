"""Storing batches: the new records in them, their rows, and the statements."""
