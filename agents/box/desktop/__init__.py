"""The box's end of remote desktops: the client of an instrument's VNC server, masking, and the encoder."""
