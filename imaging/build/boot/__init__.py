"""The start of an image: boot loader, the script that chooses a slot, and the partition `boot-state`."""
