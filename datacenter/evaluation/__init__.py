"""Evaluates stored reports: follows each instrument, and raises and resolves alerts.

The records of a box are evaluated in the order in which the box numbered them, once all earlier ones are stored or
known to be lost, however late they arrive. Therefore alerts depend neither on the order of arrival, nor on outages
and restarts. `frontier` determines how far the records are complete, `evaluator` evaluates them.
"""
