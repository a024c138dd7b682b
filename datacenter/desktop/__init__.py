"""The data center's end of remote desktops: the decoder of a stream, its recording, and the server of viewers."""
