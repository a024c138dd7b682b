"""HTTP/1.1 between programs: connections, message heads and fields, admission of clients."""
