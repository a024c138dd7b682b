"""Enrolment: boxes and instruments request their certificates by EST, with keys that they make themselves."""
