"""The simulation's engine: virtual clock and event loop, random streams, trace, watchdog."""
