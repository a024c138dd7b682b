"""The disks of the machine that runs `rap flash`, and which of them may be overwritten."""
