"""The far end: takes batches from the boxes, stores each report once, and answers with the commands that wait."""
