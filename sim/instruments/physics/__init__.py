"""The physical side of an analyzer: gauges, reagents on board, and parts that wear."""
