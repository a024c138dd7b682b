"""Writing a signed image to a disk so that it is wholly right or does not start; behind `rap flash`."""
