"""Commands to instruments: their states, who may send them, and the files that belong to them."""
