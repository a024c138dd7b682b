"""The data center: receives batches from the boxes, stores each report once, and returns waiting commands."""
