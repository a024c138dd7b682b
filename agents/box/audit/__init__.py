"""The audit log of the operating system, read into the box's spool, and the hash chain of the box's audit records."""
