"""Files that the box forwards between the data center and instruments. Start reading at `transfers.py`.

store       the files on the disk: complete or partial, bounded, verified
transfers   which range is transferred next, in both directions
serving     requests of instruments' agents for ranges
"""
