"""Remote sessions at the box: offers, the person's consent, the tunnel, the end."""
