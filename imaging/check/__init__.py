"""Checks of built systems: STIGs, with OpenSCAP and with rules for httpd and the application, and known CVEs."""
