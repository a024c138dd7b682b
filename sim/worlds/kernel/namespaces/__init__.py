"""Network namespaces with hosts, links and disks that leave nothing behind."""
