"""Building disk images from kickstarts, without the installer and without hardware; `build.py` has the steps."""
