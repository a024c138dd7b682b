"""The box's machine in the image world: QEMU, its network cards on the board's slots, its serial console."""
