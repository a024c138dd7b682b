"""Remote sessions at the data center: requests of staff, offers, the tunnel's server, the end."""
