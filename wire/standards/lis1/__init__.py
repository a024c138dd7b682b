"""LIS1-A (ASTM E1381): frames, acknowledgements and time limits between an instrument and a host.

`frames` divides bytes into frames and control characters; `receiver` and `sender` are the two sides of a transfer;
`endpoint` combines them at one end of a line; `observer` follows both directions of a line between two other parties.
"""
