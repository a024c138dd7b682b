"""The box's RPM package."""
