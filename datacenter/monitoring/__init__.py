"""Metrics, liveness and readiness of the data center's program, on a separate listener."""
