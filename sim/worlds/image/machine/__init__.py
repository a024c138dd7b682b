"""The box's machine in the image world: QEMU with network cards in the board's slots and a serial console."""
