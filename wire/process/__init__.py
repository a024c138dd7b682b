"""What every server process needs: bounds of descriptors, memory and rates, a timely end, durable files."""
