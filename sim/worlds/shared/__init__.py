"""Parts of a lab that all worlds share: instruments, addresses, firewall policy, meters, faults, verdict."""
