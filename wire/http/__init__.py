"""HTTP/1.1 between programs: connections, header parsing, field values, and admission control."""
