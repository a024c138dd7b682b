"""The site of a lab in any world: addresses, links, certificates, firewall policy, and the box's settings."""
