"""Exhaustive exploration of the transition table of sessions: both ends, messages, people and faults."""
