"""What a run left behind, read for the verdict: reports, gaps, alerts, sessions, updates, leaks, intrusions."""
