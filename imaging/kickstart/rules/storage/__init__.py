"""Rules about disks, partitions, volumes and file systems."""
