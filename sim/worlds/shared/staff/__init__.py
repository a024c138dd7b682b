"""The staff of a lab in any world: their sessions, commands, and decisions about certificates and rollouts."""
