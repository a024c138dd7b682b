"""The hardware, on Linux."""
