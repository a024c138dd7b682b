"""Delivery of records to the data center: one connection, batches, retries."""
