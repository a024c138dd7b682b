"""Enrolment: the box requests its certificates from the data center by EST, with keys that it makes itself."""
