"""The data of a run's verdict besides reports: gaps, alerts, sessions, updates, SIEM records, leaks, intrusions."""
