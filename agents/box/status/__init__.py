"""The state of a running box at one moment, and the socket that shows it."""
