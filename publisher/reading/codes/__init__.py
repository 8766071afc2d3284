"""Reads the codes on the grey picture of a page, and counts which readings agree."""
