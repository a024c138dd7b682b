"""Simulated instruments that speak their own standard: what they say, in which bytes, and how they repeat it.

    statement ── writer ──> message ── speaker ──> bytes
    (content)    (hl7, …)              (mllp, …)

A writer turns a statement into the bytes of a message, a speaker sends messages as the standard says and repeats what
is not acknowledged. Both are free of input and output. What differs from the standard is a dialect (`dialects`).
"""
