"""Evaluating the local page's httpd configuration against the Apache HTTP Server 2.4 STIGs (AS24-U1, AS24-U2)."""
