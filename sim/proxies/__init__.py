"""A clinic's HTTP and SOCKS5 proxies for the virtual world, which implement the real protocols."""
