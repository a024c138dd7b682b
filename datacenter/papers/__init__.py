"""Papers of boxes for a hospital's IT, and whether they match the evidence that was collected on the boxes."""
