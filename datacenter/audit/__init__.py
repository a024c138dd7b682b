"""The data center's audit log: append-only, hash-chained, without data of reports or patients."""
