"""Remote desktops: pictures, the messages of RFB (VNC), and the stream of a session's pictures between both ends."""
