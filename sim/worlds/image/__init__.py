"""The image world: a built image, flashed by `rap flash` and started in QEMU, in the network of the kernel world.

    image ── rap flash ──> disk (file + write cache, NBD) ── QEMU ── TAP ── the kernel world's links

Instruments, faults, data center, proxy, meters and verdict are those of the kernel world. The box is observed only
from outside. docs/design/image-world.md gives the reason for simulating the disk's write cache.
"""
