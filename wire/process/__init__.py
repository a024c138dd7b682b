"""What a server process keeps within bounds: descriptors, memory, rates, log records, and its own end."""
