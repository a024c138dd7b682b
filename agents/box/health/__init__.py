"""Health of the box: audit log, alarm LED, watchdog, supervision, certificates, bounded quantities."""
