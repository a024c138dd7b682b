"""Charts as SVG, drawn on the server: distributions, quality control, and the map of sites."""
