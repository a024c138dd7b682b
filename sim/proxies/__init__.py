"""A clinic's HTTP and SOCKS5 proxies: simulated ones for the virtual world, squid and dante for the kernel world."""
