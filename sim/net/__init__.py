"""The simulated network: hosts, links, TCP, and asyncio transports on top."""
