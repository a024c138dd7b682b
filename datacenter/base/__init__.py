"""The installed base: how the readings of all instruments of a model are distributed, day by day, and percentiles."""
