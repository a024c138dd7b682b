"""Remote sessions at the data center, from the request of staff to the recording of the desktop."""
