"""Kickstarts: assembled from fragments and a site file, and checked beyond their syntax.

`assemble.py` writes them; `document.py` reads them; `lint.py` runs the rules in `rules/`. The fragments, the disk's
layout and what differs between releases are data, in the folder `kickstart/` beside the packages.
"""
