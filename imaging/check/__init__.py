"""Evaluation of built systems against STIGs, by OpenSCAP and rules of its own, and their packages' known CVEs."""
