"""All results become a numbered, signed snapshot, and its exports."""
