"""Rules about boot loader, services, firewall and settings of the installed system."""
