"""Code shared by both ends of a connection: messages, compression, HTTP, TLS, proxies, and test certificates."""
