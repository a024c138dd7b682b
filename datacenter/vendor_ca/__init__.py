"""The vendor's CA, which signs the certificates of boxes, with its key in a file or in a security module."""
