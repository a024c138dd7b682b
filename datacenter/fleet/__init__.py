"""Queries for staff: the fleet's sites, boxes, instruments and alerts, each as far as the staff member may see it."""
