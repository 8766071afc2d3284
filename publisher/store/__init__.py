"""Keeps the original bytes by their digest, the hard links in the trees, and the quarantine."""
