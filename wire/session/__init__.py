"""The life cycle of a remote session: its states and transitions, the same for the box and the data center.

Pure: the modules contain no I/O and read no clock. A program collects facts, calls `wire.session.step` to decide
whether an event changes the state, and executes the actions of the row.
"""
