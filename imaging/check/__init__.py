"""Evaluation of built systems: the system with OpenSCAP's STIG profile, the web server by the Apache STIGs."""
