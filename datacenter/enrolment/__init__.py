"""Enrolment: certificates for boxes by EST, the approval of requests by staff, and denied boxes."""
