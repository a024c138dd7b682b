"""Back-tests of triggers on simulated histories, for which the ground truth about worn parts is known."""
