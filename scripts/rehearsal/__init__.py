"""A rehearsal: an election that nobody held, its sheets, and the scans that a night would bring."""
