"""What a run left behind, read for the verdict: gaps, alerts, sessions, updates, leaks, intrusions."""
