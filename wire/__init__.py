"""What both ends of a connection share: messages, compression, HTTP, TLS and test certificates."""
