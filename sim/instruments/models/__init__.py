"""One module for each analyzer, with its `MODEL`. docs/design/instruments.md names the sources of the figures."""
