"""Rules about addresses and devices."""
