"""OpenVPN as both ends of a remote session use it: its management interface, its process, common options."""
