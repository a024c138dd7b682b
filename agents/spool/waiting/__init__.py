"""The undelivered records, in bounded memory."""
