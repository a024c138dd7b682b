"""The history of instruments: their statuses in compressed chunks, one for each instrument and day."""
