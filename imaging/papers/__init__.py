"""The papers for a hospital's IT, as JSON and PDF: statements that are answered by facts about a box."""
