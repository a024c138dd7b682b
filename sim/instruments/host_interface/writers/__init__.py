"""Writers: messages of an instrument, one module per standard."""
