"""The data center's end of the tunnels of remote sessions."""
