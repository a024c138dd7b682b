"""Image files, block maps, zstd and ISO images."""
