"""Disk image files: block maps, and compression by zstd."""
