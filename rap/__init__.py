"""The command `rap`: one module a noun, each with its verbs; a package without `sim` is shipped without `lab`."""

VERSION = "0.1.0"
