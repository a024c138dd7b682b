"""Signatures of images and manifests."""
