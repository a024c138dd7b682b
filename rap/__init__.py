"""The command `rap`: one module or package per noun, with its verbs. A package without `sim` has no `lab`."""

VERSION = "0.1.0"
