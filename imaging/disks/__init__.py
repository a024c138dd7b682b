"""The disks of the machine that runs `rap flash`, and the decision which of them may be overwritten."""
