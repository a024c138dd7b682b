"""The command `rap`: one module or package per noun, with its verbs. `lab` is absent if `sim` is not installed."""

VERSION = "0.1.0"
