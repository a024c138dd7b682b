"""Hardware contracts (`hal.disk`, `hal.clock`, …), their two implementations, and the boards."""
