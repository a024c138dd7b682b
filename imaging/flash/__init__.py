"""Writing a signed image to a disk, for `rap flash`: the disk is complete and verified, or it does not start."""
