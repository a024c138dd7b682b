"""Kickstarts: assembled from fragments and a site file, and checked beyond their syntax.

`assemble.py` writes them; `document.py` reads them; `lint.py` runs the rules in `rules/`. The fragments, the layout
of the disk and the differences between releases are data in the top-level folder `kickstart/`.
"""
