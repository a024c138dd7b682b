"""The state of a running box at one moment, and the socket that provides it."""
