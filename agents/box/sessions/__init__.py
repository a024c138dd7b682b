"""Remote sessions at the box: offers, the person's consent, the tunnel, and how they end."""
