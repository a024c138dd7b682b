"""Reading RPM repositories."""
