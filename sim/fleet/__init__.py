"""A simulated fleet that reports to a real data center: sites, boxes, instruments, their past, and live reports.

`plan` lists the sites, boxes and instruments, `box` simulates one box with its instruments, `worker` is a
process with some of the boxes, and `demo` starts the data center's program with them. The programs of the data center
do not import it.
"""
