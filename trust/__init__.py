"""What a box is, shown by evidence: facts from files and the kernel, and their comparison with the papers."""
