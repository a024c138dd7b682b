"""The host interface of simulated instruments that speak a standard: message encoding, protocols, retransmission.

    content ── writer ──> message ── transmitter ──> bytes
               (hl7, …)              (mllp, …)

A writer encodes the content of a message. A transmitter sends messages by the standard's protocol and repeats those
that are not acknowledged. Neither performs I/O. A dialect (`dialects`) is a set of deviations from the standard.
"""
