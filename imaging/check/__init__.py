"""Evaluation of built systems: the system by OpenSCAP's STIG profile, and the web server by the Apache STIGs."""
