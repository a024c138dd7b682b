"""Enrolment: boxes and instruments request certificates by EST, for keys that they generate themselves."""
