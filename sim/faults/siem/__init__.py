"""Faults of the SIEM that receives audit records from the data center."""
