"""Evidence about a box: facts from files and the kernel, and their comparison with the papers."""
