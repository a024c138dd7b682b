"""Explains alerts: recomputes each from the stored reports, and compares the result with the recorded alert.

`evidence` reads an alert and restores its trigger, `reports` reads the instrument's reports from rows and chunks,
`replay` evaluates them again, and `silence` looks for reports in the time of a silence.
"""
