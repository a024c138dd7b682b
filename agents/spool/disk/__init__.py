"""The spool's on-disk format: groups in segments, in a log."""
