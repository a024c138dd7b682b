"""The box's disk in the image world: a file with a volatile write cache.

`cache` is the model, `nbd` the protocol to QEMU, `server` the process that serves the disk, `client` its controller.
`recording` reconstructs the disk after a power cut at any request of a recorded start.
"""
