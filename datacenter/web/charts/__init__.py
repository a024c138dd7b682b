"""Charts as SVG, drawn without a script: distributions, quality control, and the map of sites."""
