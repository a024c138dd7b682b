"""The disks of the flashing station, and which of them may be overwritten."""
