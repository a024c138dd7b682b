"""The papers for a hospital's IT: their texts, which facts of a box answer, as JSON and PDF."""
