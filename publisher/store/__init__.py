"""Original bytes by their digest, hard links into the trees, and the quarantine."""
