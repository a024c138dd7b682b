"""The records that wait for delivery, in bounded memory."""
