"""Evaluating what was built: the system with OpenSCAP's STIG profile, the local page's server by the Apache STIGs."""
