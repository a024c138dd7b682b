"""The command `rap`: one module or package per noun, with its verbs. Without `sim`, there is no `lab`."""

VERSION = "0.1.0"
