"""Hardware contracts (`hal.disk`, `hal.clock`, …), their implementations (`hal.linux`, `hal.emul`) and boards."""
