"""The agent program on an instrument: numbers reports and sends them to the box."""
