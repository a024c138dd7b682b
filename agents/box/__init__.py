"""The box program. Start reading at `box.py`."""
