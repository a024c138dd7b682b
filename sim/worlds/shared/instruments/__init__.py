"""The instruments of a lab in any world: analyzer, reporters, the line to the box, and the instrument's display."""
