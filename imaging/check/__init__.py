"""Judging what was built: the system by OpenSCAP's STIG profile, the local page's server by the Apache STIG."""
