"""The instrument's agent: numbers reports and posts them to the box."""
