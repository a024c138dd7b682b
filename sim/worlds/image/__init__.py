"""The image world: the built image itself, flashed by `rap flash` and started in QEMU, in the kernel world's network.

    image ── rap flash ──> disk (file + write cache, NBD) ── QEMU ── TAP ── the kernel world's links

Instruments, faults, data center, proxy, meters and verdict are those of the kernel world. The box is observed only
from outside. docs/design/image-world.md says why the disk's write cache is the simulator's own.
"""
