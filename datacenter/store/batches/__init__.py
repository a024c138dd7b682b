"""Storing batches: their queue, the new records in them, the rows, and the statements."""
