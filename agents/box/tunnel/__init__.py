"""The tunnel of a remote session, as the box opens it."""
