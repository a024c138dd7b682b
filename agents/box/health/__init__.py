"""How the box watches itself: audit log, alarm LED, watchdog, supervision, certificates, bounds."""
