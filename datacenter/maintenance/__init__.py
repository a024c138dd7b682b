"""Planned maintenance: windows in which alerts of a site, a box or an instrument are recorded without a notice.

`windows` finds the window of an alert, `desk` has the actions of staff on windows. An alert that begins in a window
is silenced until the end of the window; its notice is sent then if it is still open.
"""
