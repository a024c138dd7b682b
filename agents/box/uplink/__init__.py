"""How records get to the data center: one connection, batches, retries."""
