"""Back-tests of triggers on simulated histories, whose truth about worn parts is known."""
