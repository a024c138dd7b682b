"""The box's disk in the image world: a file, and in front of it a write cache that a power cut empties.

`cache` is the model, `nbd` serves it to QEMU, `server` is the process that does so, and `client` is the world's side.
"""
