"""The hardware, emulated: each device has a front door (the trait) and a back door (`.backend`).

The back door is for the simulator and for tests: it does to a device what the world does to it.
"""
